"""The settings of the whole process, and so of the command alone: hooks of blocking calls, and logging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...field import option
from ...hooks.install import SHIMS
from ...hooks.locks.waiters import PERIOD, STRATEGIES, check_mutex
from ...hooks.offload import THREADS, WAITING, check_threads
from ...hooks.offload_drivers import DRIVERS, check_drivers
from ...server.handler.errors import SetupError

#: The subjects of ``--debug``. Each has a logger: coserver.http, coserver.hooks.
DEBUGGED = ("http", "hooks")
LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """The blocking calls that the command hooks, before it imports the app. Raises SetupError."""

    families: Sequence[str] = option(
        ("all",),
        "the families of blocking calls that suspend only their handler: all, none, or their names",
        of=("all", "none", *SHIMS),
        flag="hooks",
    )
    off: Sequence[str] = option((), "the families of hooks to leave out", of=tuple(SHIMS), flag="hooks-off")
    mutex: str = option(
        "wake",
        "how a blocking handler waits for a lock: wake, until the release; retry, with a try every mutex_period",
        of=STRATEGIES,
    )
    mutex_period: float = option(
        PERIOD, "the time between two tries of mutex = 'retry'; people do not notice 5 ms", unit="seconds"
    )
    offloaded: Sequence[str] = option(
        (),
        "drivers in C whose blocking calls run in threads, so that each suspends only its handler",
        of=tuple(DRIVERS),
    )
    offload_threads: int = option(
        THREADS, "the number of threads for offloaded calls in each event loop; that of connections in a large pool"
    )
    offload_waiting: int = option(WAITING, "the most offloaded calls that wait for a thread; one more fails at once")

    def __post_init__(self) -> None:
        try:
            check_mutex(self.mutex, self.mutex_period)
            check_drivers(self.offloaded)
            check_threads(self.offload_threads, self.offload_waiting)
        except ValueError as error:
            raise SetupError(str(error)) from None
        for name, words in (("families", ("all", "none", *SHIMS)), ("off", tuple(SHIMS))):
            given = getattr(self, name)
            if isinstance(given, str) or any(one not in words for one in given):
                raise SetupError(f"{name} must be a list of {', '.join(words)}; got {given!r}")
        if "none" in self.families and len(self.families) > 1:
            raise SetupError(f"'none' stands alone in families; got {self.families!r}")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The families that are hooked."""
        wanted = SHIMS if "all" in self.families else self.families
        return tuple(one for one in SHIMS if one in wanted and one not in self.off)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How the command logs. An embedded server leaves the logging of its program alone. Raises SetupError."""

    level: str = option("info", "the lowest level that is logged: debug, info, warning, error or critical", of=LEVELS)
    format: str = option("text", "the format of the log: text, or json with one object a line", of=("text", "json"))
    debug: Sequence[str] = option(
        (),
        "subjects to log in detail: http, each head with its secrets; hooks, each suspension of a handler, and calls "
        "that block the event loop",
        of=DEBUGGED,
        flag="debug",
    )

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise SetupError(f"level must be one of {', '.join(LEVELS)}; got {self.level!r}")
        if self.format not in ("text", "json"):
            raise SetupError(f"format must be 'text' or 'json'; got {self.format!r}")
        if isinstance(self.debug, str) or any(one not in DEBUGGED for one in self.debug):
            raise SetupError(f"debug must be a list of {', '.join(map(repr, DEBUGGED))}; got {self.debug!r}")
