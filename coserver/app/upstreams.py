"""What a configuration says of upstreams meets what the app's code has declared of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..server.handler.errors import SetupError
from ..upstream.upstream import Upstream
from .config.settings import UpstreamSettings

if TYPE_CHECKING:
    from .app import App


def configure_upstreams(app: App, upstreams: Iterable[UpstreamSettings]) -> None:
    """What a configuration says of upstreams, in the place of what the app or what it mounts has declared of them.

    One that nobody has declared is the app's: ``app.upstreams["users"]``. Raises SetupError.
    """
    for one in upstreams:
        declared = next((part.upstreams[one.name] for part in app.parts() if one.name in part.upstreams), None)
        given: dict[str, Any] = {"policy": one.policy, "framing": one.framing, "limits": one.limits, "tls": one.tls}
        try:
            if declared is not None:
                declared.configure(members=one.members or (), **given)
            elif one.members:
                app.upstreams[one.name] = upstream = Upstream(*one.members[:1], name=one.name, framing=one.framing)
                upstream.configure(members=one.members, **given)
            else:
                raise ValueError("it has no members, and the app declares none of that name")
        except (ValueError, TypeError, RuntimeError) as error:
            raise SetupError(f"upstream {one.name!r}: {error}") from None
