"""Making a connection, in a task of the client's group, which it never raises into."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from .dial import dial
from .errors import UpstreamConnectError

if TYPE_CHECKING:
    from .connection import UpstreamConnection

log = logging.getLogger("coserver.upstream")


async def connect(connection: UpstreamConnection) -> None:
    """Dial, and hand over the wire; or say why there is none."""
    # The scope is made here: whoever spawns this may be the loop itself, which may not.
    with anyio.CancelScope() as connection.scope:
        if connection.sub is None:
            return
        client = connection.client
        try:
            wire = await dial(connection.pool.member, client.loop, client.tls, connection.connected)
        except OSError as error:
            connection.fail(UpstreamConnectError, f"cannot connect: {error.strerror or error}", error)
        except anyio.BrokenResourceError as error:  # TLS
            connection.fail(UpstreamConnectError, f"cannot connect: {error}", error)
        except Exception as error:
            log.exception("%r: internal error", connection)
            connection.fail(UpstreamConnectError, f"internal error: {error!r}", error)
        else:
            connection.scope = None
            connection.ready(wire)
