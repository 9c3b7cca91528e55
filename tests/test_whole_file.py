"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from coserver.whole_file import whole_file


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole_file(path, "w", encoding="utf-8") as file:
        file.write("first")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "first"
    path.chmod(0o640)
    with pytest.raises(TypeError), whole_file(path, "wb") as file:
        file.writelines([b"second" * 10_000, None])
    assert path.read_text() == "first"
    with whole_file(path, "wb") as file:
        file.write(b"second")
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_links_devices_and_modes(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with whole_file(link, "w") as file:
        file.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    with whole_file(tmp_path / "key", "wb", mode=0o600) as file:
        file.write(b"secret")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    with whole_file("/dev/null", "w") as file:
        file.write("x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "none" / "file", "w"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "file")
    name = "\u00e4" * 127  # 254 bytes: the other file's name must not be longer
    with whole_file(tmp_path / name, "w") as file:
        file.write("x")
    assert (tmp_path / name).exists()
