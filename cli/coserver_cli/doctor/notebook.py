"""What ``coserver doctor`` says of notebooks: the kernel, whether clicks reach it while a cell runs, the way to click.

Facts measured on ipykernel 6.31, 7.0, 7.1 to 7.3 and 7.4: widgets are pushed to from any thread on all but 7.0, and
clicks arrive while a cell runs on 7.1 to 7.3 alone, where subshells take them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import environ

from coserver.app.address import proxy_pattern

Result = tuple[str, bool, str, str]  # what, whether it is fine, what was found, the way out


def kernel(version: str) -> Result:
    """``version`` of ipykernel, as its metadata have it."""
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return "kernel", False, f"ipykernel {version}: not known", ""
    numbers = int(parts[0]), int(parts[1])
    if numbers < (6, 31):
        return "kernel", False, f"ipykernel {version}, untested", "pip install -U 'ipykernel>=6.31'"
    if numbers == (7, 0):
        return "kernel", False, f"ipykernel {version}: threads cannot reach widgets", "pip install -U 'ipykernel>=7.1'"
    if (7, 1) <= numbers <= (7, 3):
        return "kernel", True, f"ipykernel {version}: clicks arrive while a cell runs, by subshells", ""
    later = "" if numbers <= (7, 4) else ", as far as is known"
    return "kernel", True, f"ipykernel {version}: clicks wait until the cell that runs has ended{later}", ""


def click_path(environment: Mapping[str, str] = environ) -> Result:
    """Through which notebook proxy links go."""
    pattern, variable = proxy_pattern(environment)
    if not pattern:
        return "links", True, "go to the server itself: no notebook proxy is named in the environment", ""
    return "links", True, f"go through {pattern} ({variable})", ""


def proxy(version: str, environment: Mapping[str, str] = environ) -> Result:
    """jupyter-server-proxy belongs where the notebook server runs: not here is no proof that it is not there."""
    if version:
        return "jupyter-server-proxy", True, version, ""
    if proxy_pattern(environment)[1] == "JUPYTERHUB_SERVICE_PREFIX":
        found = "not in this environment; the links need it where the notebook server runs"
        return "jupyter-server-proxy", False, found, "pip install jupyter-server-proxy there"
    return "jupyter-server-proxy", True, "not in this environment, and no link needs it", ""


def examine(versions: Mapping[str, str], environment: Mapping[str, str] = environ) -> Iterator[Result]:
    """``versions`` by distribution, "" for what is not installed."""
    if versions.get("ipykernel"):
        yield kernel(versions["ipykernel"])
    yield click_path(environment)
    yield proxy(versions.get("jupyter-server-proxy", ""), environment)
    lab = versions.get("jupyterlab", "")
    old = bool(lab) and lab.split(".")[0].isdecimal() and int(lab.split(".")[0]) < 4
    found = f"{lab}, older than 4: untested" if old else lab or "not in this environment"
    yield "jupyterlab", not old, found, "pip install -U 'jupyterlab>=4'" if old else ""
