"""Layer 5: how a server is seen. Snapshots, traces, filters, steppers, metrics.

Public are the names in ``__all__``. Each is imported when it is first asked for (PEP 562).

| file | what it holds |
|---|---|
| snapshot/ | a picture of a live server: connections, exchanges, upstreams, counters |
| trace/ | an exchange that is over, recorded step by step |
| step/ | exchanges held at a phase: looked at, changed, let go |
| export/ | traces as HAR, Chrome trace and OTLP; HAR files read; requests sent again |
| filters | the filter language: ``parse``, and the tree that it returns |
| letters | the table of the language's terms, such as ``~u`` |
| subject | what a filter asks of an exchange |
| meter | counts of exchanges, suspensions and subrequests |
| metrics | the counts as OpenMetrics, for prometheus-client |
| secrets | names of secret fields and parameters, and their masks |
| text | fields, heads and bodies made readable |
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from ..lifecycle import events
    from ..lifecycle.emitter import Emitter
    from .export.har_reader import HarError, read_har
    from .export.replay import Replayed, ReplayError
    from .filters import FilterError, parse
    from .meter import Meter
    from .metrics import Collector
    from .snapshot.rows import (
        ConnectionState,
        ExchangeState,
        ListenerState,
        MemberState,
        SubrequestState,
        Suspension,
        UpstreamState,
        WorkersState,
    )
    from .snapshot.snapshot import Snapshot
    from .step.held import Held, NotHeld
    from .step.stepper import Stepper
    from .trace.recorder import Bounds
    from .trace.trace import Body, Message, Span, Trace

#: Where each name is defined.
_LATE = {
    "Body": ".trace.trace",
    "Bounds": ".trace.recorder",
    "Collector": ".metrics",
    "ConnectionState": ".snapshot.rows",
    "Emitter": "..lifecycle.emitter",
    "ExchangeState": ".snapshot.rows",
    "FilterError": ".filters",
    "HarError": ".export.har_reader",
    "Held": ".step.held",
    "ListenerState": ".snapshot.rows",
    "MemberState": ".snapshot.rows",
    "Message": ".trace.trace",
    "Meter": ".meter",
    "NotHeld": ".step.held",
    "ReplayError": ".export.replay",
    "Replayed": ".export.replay",
    "Snapshot": ".snapshot.snapshot",
    "Span": ".trace.trace",
    "Stepper": ".step.stepper",
    "SubrequestState": ".snapshot.rows",
    "Suspension": ".snapshot.rows",
    "Trace": ".trace.trace",
    "UpstreamState": ".snapshot.rows",
    "WorkersState": ".snapshot.rows",
    "events": "..lifecycle",
    "parse": ".filters",
    "read_har": ".export.har_reader",
}

__all__ = [
    "Body",
    "Bounds",
    "Collector",
    "ConnectionState",
    "Emitter",
    "ExchangeState",
    "FilterError",
    "HarError",
    "Held",
    "ListenerState",
    "MemberState",
    "Message",
    "Meter",
    "NotHeld",
    "ReplayError",
    "Replayed",
    "Snapshot",
    "Span",
    "Stepper",
    "SubrequestState",
    "Suspension",
    "Trace",
    "UpstreamState",
    "WorkersState",
    "events",
    "parse",
    "read_har",
]

if not _TYPE_CHECKING:  # a checker shall find a misspelt name

    def __getattr__(name: str) -> _Any:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_LATE[name], __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
