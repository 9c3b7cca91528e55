"""From ``module:app`` to the App: import the module, take the attribute, and say what to do where that fails."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from types import ModuleType

from coserver import App


class TargetError(Exception):
    """No App is to be had. ``way_out`` says what to do; ``cause`` is what the user's own module raised."""

    def __init__(self, message: str, way_out: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.way_out = way_out
        self.cause = cause


def find_app(target: str) -> App:
    """The App that ``module:attribute`` names, ``module`` alone meaning ``module:app``. Raises TargetError."""
    name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    if name.endswith(".py") or "/" in name:
        stem = name.removesuffix(".py").strip("./").replace("/", ".")
        raise TargetError(f"{name!r} is a file, not a module", f"name the module: coserver serve {stem}:{attribute}")
    if not name or name.startswith("."):
        raise TargetError(f"{target!r} names no module", "name it in full: coserver serve module:app")
    module = _import(name)
    app = getattr(module, attribute, None)
    if isinstance(app, App):
        return app
    raise TargetError(_why_not(module, attribute), _which_apps(module))


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if sys.path[0] not in ("", here):
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself or a package above it; anything else is missing inside it, and its traceback says where.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetError(f"there is no module {name!r}", _which_modules(name, here)) from None
        raise _failed(name, error, f"install {error.name}, or mend the import") from None
    except (Exception, SystemExit) as error:
        raise _failed(name, error, "mend it; the traceback says where") from None


def _failed(name: str, error: BaseException, way_out: str) -> TargetError:
    return TargetError(f"module {name!r} failed on import: {type(error).__name__}: {error}", way_out, error)


def _which_modules(name: str, here: str) -> str:
    found = [path.stem for path in Path(here).glob("*.py")]
    close = difflib.get_close_matches(name, found, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"it was looked for in {here} and among the installed packages{meant}"


def _why_not(module: ModuleType, attribute: str) -> str:
    where = f"module {module.__name__!r} ({getattr(module, '__file__', None) or 'built in'})"
    if not hasattr(module, attribute):
        return f"{where} has no {attribute!r}"
    return f"{attribute!r} of {where} is no App; it is of type {type(getattr(module, attribute)).__name__}"


def _which_apps(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, App))
    if not names:
        return "it holds no App at all; make one: app = coserver.App()"
    return f"it holds {' and '.join(names)}: coserver serve {module.__name__}:{names[0]}"
