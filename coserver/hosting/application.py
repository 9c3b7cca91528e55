"""A hosted application as an App declares it: its kind and its options. It has an endpoint wherever it is mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from ..field import option
from ..server.handler.errors import SetupError
from .asgi import adapt_asgi2
from .endpoint import HostedEndpoint, application_name
from .kind import ASGI, ASGI2, INTERFACES, WSGI, find_kind
from .lifespan import Lifespan
from .threadpool import redirected

LIFESPANS = ("auto", "on", "off")
ON_DISCONNECT = ("tell", "cancel")
BLOCKING = ("workers", "threads")


@dataclass(frozen=True, kw_only=True)
class HostingSettings:
    """The options of a hosted application. Raises SetupError."""

    interface: str = option(
        "auto",
        "the kind of the application: auto, found by looking; native, a coserver.App; asgi, asgi2 or wsgi",
        of=INTERFACES,
    )
    lifespan: str = option(
        "auto",
        "whether an ASGI application's startup and shutdown run: auto, if it has them; on, an error without; off",
        of=LIFESPANS,
    )
    root_path: str = option("", "the prefix that a proxy takes away before it forwards: /api")
    on_disconnect: str = option(
        "tell",
        "what happens to a hosted application whose client leaves: tell, it hears of it and goes on; cancel",
        of=ON_DISCONNECT,
    )
    blocking: str = option(
        "workers",
        "where def endpoints of FastAPI and Starlette run: workers, in which hooked calls suspend only their request; "
        "threads, as under other servers",
        of=BLOCKING,
    )
    underscores: bool = option(
        False, "whether fields with '_' in their names reach WSGI applications, where '-' becomes '_' too"
    )

    def __post_init__(self) -> None:
        words = {"interface": INTERFACES, "lifespan": LIFESPANS, "on_disconnect": ON_DISCONNECT, "blocking": BLOCKING}
        for name, known in words.items():
            if (value := getattr(self, name)) not in known:
                raise SetupError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")
        path = self.root_path
        if not isinstance(path, str) or (path and not path.startswith("/")) or path.endswith("/"):
            raise SetupError(f"root_path starts with '/' and does not end with one: '/api'; got {path!r}")


class Hosted:
    """An ASGI or WSGI application, and how it is hosted. See ``coserver.host``."""

    def __init__(self, application: Any, settings: HostingSettings) -> None:
        """Raises SetupError."""
        self.application = application
        self.settings = settings
        self.kind = find_kind(application, settings.interface)
        self.name = application_name(application)
        self._endpoints: list[HostedEndpoint] = []
        self._state: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Hosted {self.name}, {self.kind}>"

    @property
    def _callable(self) -> Any:
        return adapt_asgi2(self.application) if self.kind == ASGI2 else self.application

    def endpoint(self, mount: str) -> HostedEndpoint:
        """Make the endpoint of the application below ``mount``, "" for the root."""
        endpoint = HostedEndpoint(
            self._callable,
            ASGI if self.kind == ASGI2 else self.kind,
            name=self.name,
            root_path=self.settings.root_path,
            mount=mount,
            cancels=self.settings.on_disconnect == "cancel",
            underscores=self.settings.underscores,
            workers=self.settings.blocking == "workers",
        )
        endpoint.state = self._state
        self._endpoints.append(endpoint)
        return endpoint

    @asynccontextmanager
    async def run_lifespan(self, app: Any) -> AsyncIterator[None]:
        """The lifespan of the application during the block. Raises SetupError if its startup fails."""
        with redirected() if self.settings.blocking == "workers" and self.kind != WSGI else nullcontext():
            async with self._run_protocol():
                yield

    @asynccontextmanager
    async def _run_protocol(self) -> AsyncIterator[None]:
        if self.settings.lifespan == "off" or self.kind == WSGI:
            yield
            return
        run = Lifespan(self._callable, self.name, self.settings.lifespan)
        async with run.running():
            self._set_state(run.state if run.supported else None)
            try:
                yield
            finally:
                self._set_state(None)

    def _set_state(self, state: dict[str, Any] | None) -> None:
        self._state = state
        for endpoint in self._endpoints:
            endpoint.state = state

