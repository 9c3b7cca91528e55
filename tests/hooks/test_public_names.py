"""What ``coserver.hooks`` gives: two of its functions have the names of modules of the package."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pytest

from coserver import hooks


@pytest.mark.parametrize(
    "before",
    [
        "",
        "import coserver.hooks.install, coserver.hooks.offload",
        "from coserver.hooks.offload import choose_threads; from coserver.hooks.install import SHIMS",
        "from importlib import import_module; import_module('coserver.hooks.offload')",
    ],
)
def test_functions_also_after_their_modules(before: str) -> None:
    program = f"""
{before}
from coserver import hooks
from coserver.hooks import install, offload
import coserver.hooks.install, coserver.hooks.offload_drivers
from importlib import import_module, reload
reload(import_module("coserver.hooks.offload"))
kinds = {{type(one).__name__ for one in (install, offload, hooks.install, hooks.offload)}}
print(kinds, hooks.install is install, import_module("coserver.hooks.install").SHIMS["sleep"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "{'function'} True shims.sleep\n"


def test_all_names() -> None:
    assert hooks.__all__ == ["OffloadFull", "install", "installed", "offload", "offloaded", "uninstall", "watching"]
    for name in hooks.__all__:
        one = getattr(hooks, name)
        assert isinstance(one, type if name == "OffloadFull" else FunctionType), name
