"""The output: Markdown tables on stdout, ready to paste, and all measurements as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.figures import Verdict

FORMS = {
    "ratio": ".3f",
    "speed": ".3f",
    "nanoseconds": "+.0f",
    "microseconds": "+.1f",
    "kilobytes": ".2f",
    "milliseconds": ".0f",
}
UNITS = {
    "ratio": "",
    "speed": "",
    "nanoseconds": " ns",
    "microseconds": " µs",
    "kilobytes": " KB",
    "milliseconds": " ms",
}
PACKAGES = ("coserver", "anyio", "trio", "h11", "httptools", "uvloop", "uvicorn", "hypercorn", "granian", "gevent",
            "aiohttp", "starlette", "orjson", "httpx", "urllib3", "fastapi")  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (heads, *rows)) for column in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
                     for line in lines)  # fmt: skip


def bars_table(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        bar, unit, form = verdict.bar, UNITS[verdict.bar.measure], FORMS[verdict.bar.measure]
        number = "" if verdict.number is None else verdict.number.text(form) + unit
        least = "at least " if bar.measure == "speed" else ""
        best = f" [{verdict.best}]" if len(bar.of) > 1 and verdict.best else ""
        rows.append((bar.label, bar.against or "–", f"{least}{bar.at_most:{form}}{unit}", number + best, verdict.word))
    return table(("coserver", "against", "at most", "median (min – max)", "verdict"), rows)


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def machine_line() -> str:
    known = machine()
    return f"{known['implementation']} {known['python']}, {known['system']}, {known['cores']} cores, {known['cpu']}"


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    bar, number = verdict.bar, verdict.number
    return {
        "bar": bar.label,
        "of": verdict.best or list(bar.of),
        "against": bar.against,
        "at_most": bar.at_most,
        "measure": bar.measure,
        "number": None if number is None else {"median": number.median, "min": number.low, "max": number.high},
        "quiet_rounds": verdict.quiet,
        "verdict": verdict.word,
    }


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **content}, indent=1) + "\n")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
