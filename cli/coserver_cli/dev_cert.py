"""``coserver dev-cert``: a certificate for this machine. Its authority signs nothing else: its key is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.text import Text

from coserver.whole_file import whole_file

from . import console

#: The certificate's hosts if none is given.
USUAL = ("localhost", "127.0.0.1", "::1")
#: Days of validity. Apple's systems refuse more than 825; public certificates have at most 398.
_DAYS = 397


def run(names: Sequence[str], folder: Path, *, force: bool) -> int:
    """Write the three files; the exit code."""
    try:
        import trustme
    except ImportError:
        console.error("dev-cert needs trustme, which is not installed", "pip install 'coserver[dev]'")
        return 1
    certificate, key, authority = (folder / f"dev-cert{end}" for end in (".pem", ".key", "-ca.pem"))
    there = [path for path in (certificate, key, authority) if path.exists()]
    if there and not force:
        console.error(f"{there[0]} exists already", "overwrite it with --force, or name another folder with --dir")
        return 1
    names = tuple(names) or USUAL
    try:
        made = trustme.CA(organization_name="coserver dev-cert")
        issued = made.issue_cert(*names, not_after=datetime.now(UTC) + timedelta(days=_DAYS))
    except ValueError as error:
        console.error(f"no certificate can be made for {', '.join(names)}: {error}")
        return 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems), 0o644)
        _write(key, issued.private_key_pem.bytes(), 0o600)
        _write(authority, made.cert_pem.bytes(), 0o644)
    except OSError as error:
        console.error(f"{error.filename or folder} cannot be written: {error.strerror}")
        return 1
    host = f"[{names[0]}]" if ":" in names[0] else names[0]
    console.say(Text.assemble("a certificate for ", (", ".join(names), "bold"), f", valid for {_DAYS} days"))
    console.say(Text(f"  serve it   coserver serve module:app --ssl-certfile {certificate} --ssl-keyfile {key}"))
    console.say(Text(f"  test it    curl --cacert {authority} https://{host}:8000/"))
    console.say(Text(f"  browsers   import {authority} as an authority; its private key is not kept"))
    return 0


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole, with its mode set from the start, so that nobody can read a key before."""
    with whole_file(path, "wb", mode=mode) as file:
        file.write(content)
