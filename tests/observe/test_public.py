"""The exports of ``coserver.observe`` and ``coserver.control``; asking for one name loads its file alone."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ("coserver.observe", "coserver.control")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_export_is_there_and_listed(package: str) -> None:
    module = import_module(package)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__name__.rpartition(".")[2] == name
        assert name in dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_misspelt_name_is_told(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Snapshto'"):
        import_module(package).Snapshto  # noqa: B018


def test_exports_are_loaded_when_they_are_asked_for() -> None:
    code = (
        "import sys, coserver.observe, coserver.control\n"
        "late = {'coserver.observe.filters', 'coserver.observe.export.har_reader', 'coserver.control.client'}\n"
        "print(late & set(sys.modules) - loaded)\n"
        "coserver.observe.read_har; coserver.control.find\n"
        "print(len(late & set(sys.modules)))\n"
    )
    code = "import coserver, sys\nloaded = set(sys.modules)\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "3"]
