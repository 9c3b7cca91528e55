"""What counts for the whole process, and so for the command alone: which blocking calls it hooks, how it logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...field import option
from ...hooks.install import SHIMS
from ...hooks.locks.waiters import PERIOD, STRATEGIES, check_mutex
from ...hooks.offload import THREADS, WAITING, check_threads
from ...hooks.offload_drivers import DRIVERS, check_drivers
from ...server.handler.errors import SetupError

#: What ``--debug`` shows: each has a logger, coserver.http and coserver.hooks.
DEBUGGED = ("http", "hooks")
LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """Which blocking calls the command hooks, before it imports the app. Raises SetupError."""

    families: Sequence[str] = option(
        ("all",),
        "the families of blocking calls that suspend only their handler; all of them, none, or their names",
        of=("all", "none", *SHIMS),
        flag="hooks",
    )
    off: Sequence[str] = option((), "families that are left out of those", of=tuple(SHIMS), flag="hooks-off")
    mutex: str = option(
        "wake",
        "how a blocking handler waits for a lock: wake, by the release; retry, by trying every mutex_period",
        of=STRATEGIES,
    )
    mutex_period: float = option(PERIOD, "between two tries of mutex = 'retry'; nobody notices 5 ms", unit="seconds")
    offloaded: Sequence[str] = option(
        (), "drivers in C whose blocking calls run in threads, each suspending only its handler", of=tuple(DRIVERS)
    )
    offload_threads: int = option(THREADS, "threads for offloaded calls, in each event loop; a connection pool's size")
    offload_waiting: int = option(WAITING, "offloaded calls that may wait for a thread; one more fails at once")

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
            raise SetupError(f"families must be none alone, or others; got {self.families!r}")

    @property
    def chosen(self) -> tuple[str, ...]:
        """What remains of them."""
        wanted = SHIMS if "all" in self.families else self.families
        return tuple(one for one in SHIMS if one in wanted and one not in self.off)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How the command logs. An embedded server leaves the logging of its program alone. Raises SetupError."""

    level: str = option("info", "how much is logged: debug, info, warning, error or critical", of=LEVELS)
    format: str = option("text", "text, or json: one object a line", of=("text", "json"))
    debug: Sequence[str] = option(
        (),
        "what to show in detail: http, each head as it passes, secrets included; hooks, each suspension of a handler, "
        "and what blocks the event loop",
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
