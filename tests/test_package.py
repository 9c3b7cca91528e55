"""The package as an index shows it: its text, its metadata, its extras. Wheel and sdist are built once."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from coserver import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What an install brings without extras: each is justified in docs/explanation/dependencies.md.
BARE = {"anyio", "h11", "greenlet", "regex", "typer", "rich"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def metadata(built: Path) -> list[Message]:
    """That of the wheel and that of the sdist."""
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as files:
        name = next(one for one in files.namelist() if one.endswith("dist-info/METADATA"))
        of_wheel = files.read(name).decode()
    with tarfile.open(sdist) as archive:
        member = archive.extractfile(f"coserver-{__version__}/PKG-INFO")
        assert member is not None
        of_sdist = member.read().decode()
    return [email.message_from_string(one) for one in (of_wheel, of_sdist)]


def test_the_text_renders_on_an_index(metadata: list[Message]) -> None:
    markdown = pytest.importorskip("readme_renderer.markdown")
    for each in metadata:
        assert each["Description-Content-Type"] == "text/markdown"
        html = markdown.render(each.get_payload())
        assert html is not None
        assert ">coserver<" in html
        assert "<table>" in html


def test_the_text_leads_nowhere_that_is_not_there() -> None:
    """No relative link and no picture: an index has no other file."""
    text = (ROOT / PROJECT["readme"]).read_text()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert [link for link in re.findall(r"\]\(([^)]*)\)", prose) if not link.startswith("https://")] == []
    assert "<img" not in prose
    for extra in PROJECT["optional-dependencies"]:
        assert f"`{extra}`" in prose


def test_the_example_of_the_text_serves() -> None:
    from coserver import testing

    (source,) = re.findall(r"^```python\n(.*?)^```", (ROOT / PROJECT["readme"]).read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(source, names)
    with testing.sync_client(names["app"]) as client:  # type: ignore[arg-type]
        assert client.get("/items/1").json() == {"id": 1, "name": "lamp"}
        assert client.get("/items/9").status == 404


def test_the_metadata_names_who_and_what(metadata: list[Message]) -> None:
    for each in metadata:
        assert each["Version"] == __version__
        assert each["Author"] == "coserver contributors"
        assert each["License-Expression"] == "MIT"
    assert "urls" not in PROJECT  # no host that does not exist


def test_the_extra_of_all_has_every_other() -> None:
    extras = dict(PROJECT["optional-dependencies"])
    (everything,) = extras.pop("all")
    assert everything == f"coserver[{','.join(sorted(extras, key=everything.index))}]"
    names = (ROOT / "docs/explanation/dependencies.md").read_text()
    for extra, packages in extras.items():
        assert f"| `{extra}` |" in names
        for package in packages:
            assert re.split(r"[>=<!;]", package)[0] in names


def test_nothing_heavy_comes_unseen() -> None:
    """A new dependency of the bare install is justified in the documentation first."""
    names = {re.split(r"[>=<!;]", one)[0] for one in PROJECT["dependencies"]}
    assert names == BARE
    page = (ROOT / "docs/explanation/dependencies.md").read_text()
    assert all(re.search(rf"^\| {name}\b", page, re.MULTILINE) for name in names)


def test_the_wheel_is_small(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        size = sum(one.file_size for one in files.infolist())
        assert not [one for one in files.namelist() if one.startswith(("tests", "docs", "benchmarks"))]
    assert size < 4_000_000  # 2.6 MB in December 2026; compiled, twice that
