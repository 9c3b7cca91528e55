"""The doctor's findings about notebooks, with made-up kernels and proxies."""

from __future__ import annotations

import pytest

from coserver_cli.doctor.notebook import examine, kernel

HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}


@pytest.mark.parametrize(
    ("version", "fine", "said"),
    [
        ("6.29.5", False, "untested"),
        ("6.31.0", True, "clicks wait"),
        ("7.0.1", False, "threads cannot reach widgets"),
        ("7.1.0", True, "clicks arrive"),
        ("7.3.2", True, "clicks arrive"),
        ("7.4.0", True, "hears no clicks while a cell runs; clicks wait until the running cell has ended"),
        ("8.0.0", True, "(newest tested: 7.4)"),
        ("strange", False, "not known"),
    ],
)
def test_kernels(version: str, fine: bool, said: str) -> None:
    _, is_fine, found, _ = kernel(version)
    assert (is_fine, said in found) == (fine, True)


def test_proxies() -> None:
    here = {what: (fine, found) for what, fine, found, _ in examine({}, {})}
    assert "go directly to the server" in here["links"][1]
    assert here["jupyter-server-proxy"][0]
    hub = {what: (fine, found) for what, fine, found, _ in examine({}, HUB)}
    assert "/user/ada/proxy/{port}/" in hub["links"][1]
    assert not hub["jupyter-server-proxy"][0]
    assert {what: fine for what, fine, *_ in examine({"jupyter-server-proxy": "4.4"}, HUB)}["jupyter-server-proxy"]
    assert not {what: fine for what, fine, *_ in examine({"jupyterlab": "3.6.1"}, {})}["jupyterlab"]
