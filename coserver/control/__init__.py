"""Layer 6: the control socket, by which ``coserver top``, ``step`` and ``trace`` ask a server; and its client.

Public are the names in ``__all__``. Each is imported when it is first asked for (PEP 562).

| file | what it holds |
|---|---|
| client | ``find``, ``Client`` and its streams, for plain threads |
| host | the sockets of one control, and the thread that answers on them |
| api | the routes of the control socket, and their handlers |
| server_handle | the server as the control needs it |
| steps | the steppers that clients opened |
| feed | events and traces on their way from the server's loop to a client |
| wire_format | events and traces as JSON, and back |
| auth | who may ask: the token, the Host, the Origin |
| socket_path | where control sockets are, and which of them are alive |
| edit_syntax | edits, answers and holds as one line that a person types |
| page_port | the port by which a notebook's page asks while the kernel is busy |
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from .client import Client, Ended, Refused, StepStream, Stream, Unreachable, find

__all__ = ["Client", "Ended", "Refused", "StepStream", "Stream", "Unreachable", "find"]

if not _TYPE_CHECKING:  # a checker shall find a misspelt name

    def __getattr__(name: str) -> _Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(".client", __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
