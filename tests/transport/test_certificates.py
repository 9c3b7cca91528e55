"""Certificates from files: what is wrong with them is told when they are read, and none replaces a good one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from coserver.transport.certificates import CertificateError, Certificates, Files

from ..certificates import encrypt, write, write_authority


def make(certificate: str, key: str = "", **options: Any) -> Certificates:
    return Certificates(Files([certificate], [key] if key else [], **options))


def test_names_find_their_context(tmp_path: Path) -> None:
    pairs = [write(tmp_path, name, stem=str(at)) for at, name in enumerate(("a.test", "*.b.test", "b.test", "a.test"))]
    loaded = Certificates(Files([one for one, _ in pairs], [key for _, key in pairs])).loaded
    assert len({id(context) for context in loaded.by_name.values()}) == 3
    assert loaded.find("a.test") is loaded.first  # the first of two for one name
    assert loaded.find("A.Test.") is loaded.first
    assert loaded.find("x.b.test") is loaded.by_name["*.b.test"]
    assert loaded.find("b.test") is loaded.by_name["b.test"]
    for other in ("x.y.b.test", "", ".", "c.test", "*"):
        assert loaded.find(other) is loaded.first


def test_key_and_certificate_in_one_file(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(Path(key).read_bytes() + Path(certificate).read_bytes())
    assert "both.pem until" in repr(make(str(both)))


def test_an_encrypted_key(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    locked = encrypt(key, b"sesame")
    make(certificate, locked, password="sesame")
    with pytest.raises(CertificateError, match=r"encrypted; give its password"):
        make(certificate, locked)
    with pytest.raises(CertificateError, match=r"does not open the key"):
        make(certificate, locked, password="simsim")
    make(certificate, key, password="not needed")


def test_what_cannot_be_used(tmp_path: Path) -> None:
    """Each says which file, what is wrong, and the way out."""
    certificate, key = write(tmp_path)
    _, other = write(tmp_path, "other.test", stem="other")
    empty, folder = tmp_path / "empty", tmp_path / "folder"
    empty.write_text("")
    folder.mkdir()
    authorities = write_authority(tmp_path)
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        (str(tmp_path / "gone"), key, {}, r"gone cannot be read: No such file"),
        (certificate, str(tmp_path / "gone"), {}, r"gone cannot be read: No such file"),
        (str(folder), key, {}, r"folder cannot be read: Is a directory"),
        (str(empty), key, {}, r"empty is not a usable certificate: it holds no certificate in PEM"),
        (key, key, {}, r"cert\.key is not a usable certificate"),
        (certificate, certificate, {}, r"holds no private key in PEM .* name its key as keyfile"),
        (certificate, "", {}, r"holds no private key in PEM .* name its key as keyfile"),
        (certificate, str(empty), {}, r"holds no private key in PEM .* name another file as keyfile"),
        (certificate, other, {}, r"other\.key is not that of the certificate in .*cert\.pem"),
        (certificate, key, {"ciphers": "NONSENSE"}, r"OpenSSL knows no cipher in 'NONSENSE'"),
        (certificate, key, {"authorities": str(empty)}, r"no authorities can be read from .*empty: "),
        (
            certificate,
            key,
            {"authorities": str(tmp_path / "gone")},
            r"no authorities can be read from .*: No such file",
        ),
        (certificate, key, {"authorities": authorities, "clients": "required"}, ""),
    ]
    for first, second, options, told in cases:
        if not told:
            make(first, second, **options)
            continue
        with pytest.raises(CertificateError, match=told):
            make(first, second, **options)


def test_a_damaged_key(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    lines = Path(key).read_text().splitlines()
    Path(key).write_text("\n".join([lines[0], lines[1][:10], lines[-1]]))
    with pytest.raises(CertificateError, match="cannot be used"):
        make(certificate, key)


@pytest.mark.parametrize(("days", "told"), [(-3, "expired on"), (3, "expires on"), (30, "")])
def test_its_end_is_told(tmp_path: Path, days: int, told: str, caplog: pytest.LogCaptureFixture) -> None:
    make(*write(tmp_path, days=days))
    assert [record.levelname for record in caplog.records] == (["WARNING"] if told else [])
    assert told in caplog.text


def test_read_again_when_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    certificate, key = write(tmp_path)
    made = make(certificate, key)
    before = made.loaded
    made.reload_if_changed()
    assert made.loaded is before

    Path(key).write_text("half")
    made.reload_if_changed()
    assert made.loaded is before
    assert "stay in use" in caplog.text
    caplog.clear()
    made.reload_if_changed()  # said once, until the files change again
    assert not caplog.records

    os.unlink(key)
    made.reload_if_changed()
    assert made.loaded is before

    write(tmp_path, days=99)
    made.reload_if_changed()
    assert made.loaded is not before
    assert made.loaded.until > before.until
    assert "read again" in caplog.text


def test_no_password_is_shown(tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    assert "sesame" not in repr(Files([certificate], [key], password="sesame"))
