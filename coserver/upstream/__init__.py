"""Layer 4: subrequests, from a handler to the members of an upstream.

| file | what it holds |
|---|---|
| upstream | ``Upstream``: members, policy, limits and TLS as declared; get, post, send, forward, map |
| subrequest | one subrequest: it waits, ends, is cancelled |
| waitable | the base of all that may be awaited by a task, and waited for by a plain function |
| gather | several subrequests at once: ``gather`` and ``upstream.map`` |
| response | a response: whole, or with a body that is still coming |
| relay | a forwarded request, which hands on interim responses |
| encode | a subrequest's bytes; a handler's request forwarded to an upstream |
| edit | a held subrequest changed, or answered in the member's place |
| errors | what a subrequest raises |
| limits, tls, member | what is declared: ``UpstreamLimits``, ``UpstreamTls``, ``UpstreamMember`` |
| parent | the exchange that a subrequest belongs to, and how deep they nest |
| pool/ | members and their connections: choice, queue, health, retries, DNS |
| connection/ | one connection to one member |
"""

from .errors import (
    SubrequestCancelled,
    TooDeep,
    UpstreamBusy,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from .gather import Gathered, Map  # the function is coserver.gather: here its name is the file's
from .limits import UpstreamLimits
from .member import UpstreamMember
from .relay import ForwardedSubrequest
from .response import BodyStream, StreamedUpstreamResponse, UpstreamResponse
from .subrequest import Subrequest
from .tls import UpstreamTls
from .upstream import Upstream

__all__ = [
    "BodyStream",
    "ForwardedSubrequest",
    "Gathered",
    "Map",
    "StreamedUpstreamResponse",
    "Subrequest",
    "SubrequestCancelled",
    "TooDeep",
    "Upstream",
    "UpstreamBusy",
    "UpstreamConnectError",
    "UpstreamError",
    "UpstreamLimits",
    "UpstreamMember",
    "UpstreamProtocolError",
    "UpstreamResponse",
    "UpstreamTimeout",
    "UpstreamTls",
]
