"""Findings of ``coserver doctor`` about notebooks: the kernel, clicks while a cell runs, links and their proxy.

Measured on ipykernel 6.31, 7.0, 7.1 to 7.3 and 7.4: any thread can push to widgets on all but 7.0. Clicks arrive while
a cell runs only on 7.1 to 7.3, where subshells take them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import environ

from coserver.app.address import proxy_pattern

Result = tuple[str, bool, str, str]  # the thing, whether it is fine, the finding, the way out


def kernel(version: str) -> Result:
    """A finding about the kernel; ``version`` is ipykernel's, from its metadata."""
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return "kernel", False, f"ipykernel {version}: not known", ""
    numbers = int(parts[0]), int(parts[1])
    if numbers < (6, 31):
        return "kernel", False, f"ipykernel {version}, untested", "pip install -U 'ipykernel>=6.31'"
    if numbers == (7, 0):
        return "kernel", False, f"ipykernel {version}: threads cannot reach widgets", "pip install -U 'ipykernel>=7.1'"
    if (7, 1) <= numbers <= (7, 3):
        return "kernel", True, f"ipykernel {version}: clicks arrive while a cell runs (subshells)", ""
    later = "" if numbers <= (7, 4) else " (newest tested: 7.4)"
    found = f"ipykernel {version} hears no clicks while a cell runs; clicks wait until the running cell has ended"
    return "kernel", True, found + later, "pip install 'ipykernel>=7.1,<7.4' has clicks at once"


def click_path(environment: Mapping[str, str] = environ) -> Result:
    """The notebook proxy that links go through."""
    pattern, variable = proxy_pattern(environment)
    if not pattern:
        return "links", True, "go directly to the server: the environment names no notebook proxy", ""
    return "links", True, f"go through {pattern} ({variable})", ""


def proxy(version: str, environment: Mapping[str, str] = environ) -> Result:
    """jupyter-server-proxy is needed where the notebook server runs; that may be another environment."""
    if version:
        return "jupyter-server-proxy", True, version, ""
    if proxy_pattern(environment)[1] == "JUPYTERHUB_SERVICE_PREFIX":
        found = "not in this environment; links need it where the notebook server runs"
        return "jupyter-server-proxy", False, found, "pip install jupyter-server-proxy there"
    return "jupyter-server-proxy", True, "not in this environment; no link needs it", ""


def examine(versions: Mapping[str, str], environment: Mapping[str, str] = environ) -> Iterator[Result]:
    """All findings; ``versions`` by distribution, "" if it is not installed."""
    if versions.get("ipykernel"):
        yield kernel(versions["ipykernel"])
    yield click_path(environment)
    yield proxy(versions.get("jupyter-server-proxy", ""), environment)
    lab = versions.get("jupyterlab", "")
    old = bool(lab) and lab.split(".")[0].isdecimal() and int(lab.split(".")[0]) < 4
    found = f"{lab}, older than 4: untested" if old else lab or "not in this environment"
    yield "jupyterlab", not old, found, "pip install -U 'jupyterlab>=4'" if old else ""
