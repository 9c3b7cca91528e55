"""Making a connection, in a task of the client's group, which it never raises into."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ..errors import UpstreamConnectError
from .dial import Wire, dial, secured

if TYPE_CHECKING:
    from .connection import UpstreamConnection

log = logging.getLogger("coserver.upstream")


async def connect(connection: UpstreamConnection) -> None:
    """Dial, and hand over the wire; or say why there is none."""
    # The scope is made here: whoever spawns this may be the loop itself, which may not.
    with anyio.CancelScope() as connection.scope:
        if connection.sub is None:
            return
        client, pool = connection.client, connection.pool
        try:
            if not pool.addresses and pool.name is not None:
                await pool.name.answered()
                if connection.sub is None:
                    return  # it goes to one of the members that the name has turned out to be
            sock = await dial(pool.addresses, client.loop)
            wire: Wire = sock
            if client.tls is not None and pool.member.scheme == "https":
                connection.connected()
                wire = await secured(sock, client.loop, client.tls, client.server_name or pool.member.name)
        except OSError as error:
            if pool.addresses and pool.name is not None:
                pool.name.doubt()
            connection.fail(UpstreamConnectError, f"cannot connect: {error.strerror or error}", error)
        except anyio.BrokenResourceError as error:  # TLS
            connection.fail(UpstreamConnectError, f"cannot connect: {error}", error)
        except Exception as error:
            log.exception("%r: internal error", connection)
            connection.fail(UpstreamConnectError, f"internal error: {error!r}", error)
        else:
            connection.scope = None
            try:
                connection.ready(wire)
            except OSError as error:  # the system watches no more descriptors (epoll_ctl(2): ENOSPC, ENOMEM)
                connection.fail(UpstreamConnectError, f"cannot watch it: {error.strerror or error}", error)
