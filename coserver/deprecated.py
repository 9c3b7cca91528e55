"""Old names, for one release: each works, and warns with the name that took its place.

This file is loaded when somebody asks for an old name. ``deprecated(old, new)`` is for all other places: a renamed
attribute, a word of a filter, a key of a file.
"""

from __future__ import annotations

import runpy
import sys
import warnings
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, FrameType, ModuleType
from typing import Any

#: Old module: the module that took its place, and the package that exports its public names, "" if none does.
MODULES: dict[str, tuple[str, str]] = {
    "coserver.app.shown": ("coserver.app.inspect.display", ""),  # classes of traces that were pickled
    "coserver.app.traces": ("coserver.app.inspect.traces", "coserver"),
    "coserver.observe.har_reading": ("coserver.observe.export.har_reader", "coserver.observe"),
    "coserver.observe.held": ("coserver.observe.step.held", "coserver.observe"),
    "coserver.observe.resending": ("coserver.observe.export.replay", "coserver.observe"),
    "coserver.observe.states": ("coserver.observe.snapshot.rows", "coserver.observe"),
    "coserver.observe.stepper": ("coserver.observe.step.stepper", "coserver.observe"),
    "coserver.server.blocking_tcp": ("coserver.server.tcp", "coserver"),
    "coserver.upstream.balance": ("coserver.upstream.pool.balance", ""),
    "coserver.views.debug_page.__main__": ("coserver.views.debug_page.page", ""),
    "coserver.views.frozen": ("coserver.views.html", ""),
    "coserver.views.keys": ("coserver.views.dashboard.keys", ""),
    "coserver.views.lifecycle_svg": ("coserver.views.svg.lifecycle", ""),
    "coserver.views.screen": ("coserver.views.dashboard.screen", ""),
    "coserver.views.waterfall_svg": ("coserver.views.svg.waterfall", ""),
}

#: Old name: the name that took its place. A module of such names asks ``old_name`` in its ``__getattr__``.
NAMES: dict[str, str] = {
    "coserver.AppError": "coserver.SetupError",
    "coserver.Event": "coserver.ServerSentEvent",
    "coserver.Member": "coserver.UpstreamMember",
    "coserver.control.client.RemoteStepper": "coserver.control.StepStream",
    "coserver.observe.snapshot.ConnectionState": "coserver.observe.ConnectionState",
    "coserver.observe.snapshot.ExchangeState": "coserver.observe.ExchangeState",
    "coserver.observe.snapshot.ListenerState": "coserver.observe.ListenerState",
    "coserver.observe.snapshot.MemberState": "coserver.observe.MemberState",
    "coserver.observe.snapshot.Snapshot": "coserver.observe.Snapshot",
    "coserver.observe.snapshot.SubrequestState": "coserver.observe.SubrequestState",
    "coserver.observe.snapshot.Suspension": "coserver.observe.Suspension",
    "coserver.observe.snapshot.UpstreamState": "coserver.observe.UpstreamState",
    "coserver.observe.trace.Body": "coserver.observe.Body",
    "coserver.observe.trace.Message": "coserver.observe.Message",
    "coserver.observe.trace.Span": "coserver.observe.Span",
    "coserver.observe.trace.Trace": "coserver.observe.Trace",
    "coserver.views.dashboard.Dashboard": "coserver.views.dashboard.model.Dashboard",
}


def deprecated(old: str, new: str) -> None:
    """Warn that ``old`` is now ``new``, at the innermost line that is not this package's: the line to change."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_back is not None and _is_inner(frame):
        frame = frame.f_back
    assert frame is not None
    warnings.warn_explicit(
        f"{old} is now {new}; the old name goes with the next release",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<string>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def old_name(module: str, name: str) -> Any:
    """The value of an old name, with the warning. Raises AttributeError for a name that was never there."""
    old = f"{module}.{name}"
    if old not in NAMES:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    deprecated(old, NAMES[old])
    place, _, new = NAMES[old].rpartition(".")
    return getattr(import_module(place), new)


def old_module(name: str) -> ModuleSpec | None:
    """The spec of a module by its old name: importing it gives the new module itself; None for all other names."""
    if name not in MODULES:
        return None
    new, public = MODULES[name]
    there = find_spec(new)
    return ModuleSpec(name, _Loader(new, public), origin=there.origin if there else None)


class _Loader(Loader):
    def __init__(self, new: str, public: str) -> None:
        self.new = new
        self.words = f"{new} (import its public names from {public})" if public else new

    def create_module(self, spec: ModuleSpec) -> None: ...

    def exec_module(self, module: ModuleType) -> None:
        deprecated(module.__name__, self.words)
        # The import system returns what stands here when this method is over.
        sys.modules[module.__name__] = import_module(self.new)

    def get_code(self, name: str) -> CodeType:
        """For ``python -m``."""
        old = name.removesuffix(".__main__")
        source = f"from coserver.deprecated import run_old as _run_old; _run_old({old!r}, {self.new!r})"
        return compile(source, f"<python -m {old}>", "exec")


def run_old(old: str, new: str) -> None:
    deprecated(f"python -m {old}", f"python -m {new}")
    runpy.run_module(new, run_name="__main__", alter_sys=True)


def _is_inner(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in ("coserver", "importlib", "_frozen_importlib")
