"""From ``module:app`` to the App: import the module, take the attribute; errors say what to do."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from coserver import App, SetupError, host
from coserver.app.runner import runs_ignored
from coserver.hosting.application import HostingSettings
from coserver.hosting.kind import of_known_class

from .. import console

_IF_MAIN = 'if __name__ == "__main__":'
#: The names under which a module has its app, the usual ones first.
USUAL_NAMES = ("app", "application", "asgi", "wsgi")
#: The names of functions that make one.
FACTORIES = ("create_app", "make_app", "get_app")
#: Folders that were added at the front of sys.path.
_looked_in: list[str] = []


class TargetError(Exception):
    """No App could be loaded. ``way_out`` says what to do; ``cause`` is the exception of the user's module."""

    def __init__(self, message: str, way_out: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.way_out = way_out
        self.cause = cause


def look_in(folder: Path | None) -> None:
    """Search this folder, or the current one, first for modules. Raises TargetError."""
    if folder is not None and not folder.is_dir():
        raise TargetError(f"--app-dir: {str(folder)!r} is not a folder", "give the folder that has the module")
    here = str((folder or Path.cwd()).resolve())
    _looked_in.append(here)
    if sys.path[0] not in ("", here) or folder is not None:
        sys.path.insert(0, here)


def find_app(target: str, *, factory: bool = False, hosting: HostingSettings | None = None) -> App:
    """The App that ``module:attribute`` names, or one that hosts the ASGI or WSGI application there.

    ``module`` alone means the first of ``USUAL_NAMES`` that it has, or the only application of a known framework. With
    ``factory`` the attribute is a function that returns the app. Raises TargetError.
    """
    hosting = hosting or HostingSettings()
    if target.endswith("()"):  # as gunicorn has it
        target, factory = target.removesuffix("()"), True
    module, attribute, found = _find(target, "app")
    if found is None and ":" not in target:
        attribute, found, factory = _usual(module, factory)
    if factory:
        found = _made(module, attribute, found)
    if isinstance(found, App):
        if hosting.interface not in ("auto", "native"):
            raise TargetError(
                f"interface is {hosting.interface!r}, but {module.__name__}:{attribute} is a coserver.App",
                "leave --interface out",
            )
        return found
    if not callable(found) or hosting.interface == "native":
        raise TargetError(_why_not(module, attribute), _which_apps(module, attribute, found))
    try:
        name = module.__name__.rpartition(".")[2] if attribute in (*USUAL_NAMES, *FACTORIES) else attribute
        return host(found, name, **asdict(hosting))
    except SetupError as error:
        where = f"{attribute!r} of {_place(module)}"
        raise TargetError(f"{where} cannot be served: {error}", _which_apps(module, attribute, found)) from None


def _usual(module: ModuleType, factory: bool) -> tuple[str, Any, bool]:
    """The name and the value of the application in a module that was named alone, and whether it is a factory."""
    for name in FACTORIES if factory else USUAL_NAMES:
        if (found := getattr(module, name, None)) is not None:
            return name, found, factory
    known = [(name, value) for name, value in vars(module).items() if isinstance(value, App) or of_known_class(value)]
    if not factory and len({id(value) for _, value in known}) == 1:
        return *known[0], False
    for name in FACTORIES:
        if not factory and not known and callable(found := getattr(module, name, None)):
            return name, found, True
    return "app", None, factory


def find_object(kind: str, reference: str, *, hosting: HostingSettings | None = None) -> Any:
    """Import the value of a listener's key: an app, a handler, or a framing's class. Raises TargetError."""
    if kind == "app":
        return find_app(reference, hosting=hosting)
    module, attribute, found = _find(reference, "app")
    if found is None:
        raise TargetError(_why_not(module, attribute), f"correct {kind} = {reference!r}, or define {attribute} there")
    if not callable(found):
        what = "function" if kind == "handler" else "class"
        raise TargetError(f"{reference!r} is not a {what}; its type is {type(found).__name__}", f"name a {what}")
    return found


def _find(target: str, usual: str) -> tuple[ModuleType, str, Any]:
    """The module, the attribute's name, and its value; None if the module has no such attribute."""
    name, _, attribute = target.partition(":")
    attribute = attribute or usual
    if name.endswith(".toml"):
        way_out = f"pass it with --config: coserver serve --config {name}"
        raise TargetError(f"{name!r} is a configuration file, not a module", way_out)
    if name.endswith(".py") or "/" in name:
        stem = name.removesuffix(".py").strip("./").replace("/", ".")
        raise TargetError(f"{name!r} is a file, not a module", f"name the module: coserver serve {stem}:{attribute}")
    if not name or name.startswith("."):
        raise TargetError(f"{target!r} names no module", "give module and app: coserver serve module:app")
    module = _import(name)
    found: Any = module
    for step in attribute.split("."):
        found = getattr(found, step, None)
    return module, attribute, found


def _made(module: ModuleType, attribute: str, make: Any) -> Any:
    """Call the factory; the app that it returns."""
    name = f"{module.__name__}:{attribute}"
    if make is None:
        raise TargetError(_why_not(module, attribute), _which_apps(module, attribute, make))
    if isinstance(make, App) or not callable(make):
        raise TargetError(f"{name} is not a factory; its type is {type(make).__name__}", "leave out --factory")
    try:
        with runs_ignored(_warn_of_run):
            app = make()
    except SetupError as error:
        raise TargetError(str(error), console.place_of(error)) from None
    except (Exception, SystemExit) as error:
        message = f"{name}() failed: {type(error).__name__}: {error}"
        raise TargetError(message, "fix it; the traceback shows the line", error) from None
    if callable(app) or isinstance(app, App):
        return app
    way_out = "a factory is a def that returns a coserver.App, or an ASGI or WSGI application"
    if inspect.iscoroutine(app):
        app.close()
        way_out = "write it as a def, not as an async def"
    raise TargetError(f"{name}() returned {type(app).__name__}, not an App", way_out)


def _import(name: str) -> ModuleType:
    if not _looked_in:
        look_in(None)
    try:
        with runs_ignored(_warn_of_run):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package above it. Any other missing module is an import inside it: show its traceback.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetError(f"there is no module {name!r}", _which_modules(name)) from None
        raise _failed(name, error, f"install {error.name}, or correct the import") from None
    except SetupError as error:
        raise TargetError(str(error), console.place_of(error)) from None
    except (Exception, SystemExit) as error:
        raise _failed(name, error, "fix it; the traceback shows the line") from None


def _warn_of_run(app: App) -> None:
    """A module that is served calls ``app.run()`` at its top level."""
    console.warning(f"app.run() of {app.name!r} is ignored: this command runs the app; put it below {_IF_MAIN}")


def _failed(name: str, error: BaseException, way_out: str) -> TargetError:
    return TargetError(f"module {name!r} failed on import: {type(error).__name__}: {error}", way_out, error)


def _which_modules(name: str) -> str:
    here = sys.path[0] or str(Path.cwd())
    found = [path.stem for path in Path(here).glob("*.py")]
    close = difflib.get_close_matches(name, found, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"searched {here} and the installed packages{meant}"


def _place(module: ModuleType) -> str:
    return f"module {module.__name__!r} ({getattr(module, '__file__', None) or 'built in'})"


def _why_not(module: ModuleType, attribute: str) -> str:
    where = _place(module)
    found: Any = module
    for step in attribute.split("."):
        if not hasattr(found, step):
            return f"{where} has no {attribute!r}"
        found = getattr(found, step)
    return f"{attribute!r} of {where} is not an App; its type is {type(found).__name__}"


def _which_apps(module: ModuleType, attribute: str, found: Any) -> str:
    """The way out: the Apps of the module, or the flag for a function that returns one."""
    names = sorted(name for name, value in vars(module).items() if isinstance(value, App) or of_known_class(value))
    command = f"coserver serve {module.__name__}:"
    held = f"it has {' and '.join(names)}: {command}{names[0]}" if names else ""
    if inspect.isfunction(found):
        made = f"if it returns the App: {command}{attribute} --factory"
        return f"{made}; {held}" if held else made
    return held or "it has no App; add one: app = coserver.App()"
