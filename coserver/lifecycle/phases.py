"""The phases of a connection's life, as shown in the live table and named by ``at=`` and ``--at``.

Plain strings, not an enum: a phase is written several times a request, and read from any thread.
"""

from __future__ import annotations

ACCEPT = "accept"  # open, nothing received yet
HANDSHAKE = "handshake"  # TLS is being agreed on
HEAD = "head"  # a part of a request's head has come
BODY = "body"  # reading the request's body
HANDLER = "handler"  # the handler runs
SUSPEND = "suspend"  # the handler waits in a blocking call
SUBREQUEST = "subrequest"  # the handler waits for an upstream
RESPONSE = "response"  # the response is being written
RECYCLE = "recycle"  # between two requests
CLOSED = "closed"

PHASES = (ACCEPT, HANDSHAKE, HEAD, BODY, HANDLER, SUSPEND, SUBREQUEST, RESPONSE, RECYCLE)
