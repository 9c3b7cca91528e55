"""The parts of an X.509 certificate (RFC 5280) that a server needs: its names, and its expiry.

DER is read, not checked: OpenSSL uses the certificate, and checks it. Unreadable data raises ValueError.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----\s(.*?)-----END", re.DOTALL)
_SEQUENCE, _EXTENSIONS, _VERSION = 0x30, 0xA3, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"  # 2.5.29.17
_DNS, _IP = 0x82, 0x87


@dataclass(frozen=True, slots=True)
class Certificate:
    """``names``: hosts in lower case, perhaps ``*.example.org``, and addresses. ``until``: the time when it expires."""

    names: tuple[str, ...]
    begins: datetime
    until: datetime

    @classmethod
    def from_pem(cls, content: bytes) -> Certificate:
        """The first certificate of a PEM file. Raises ValueError if there is none that can be read."""
        match = _PEM.search(content)
        if match is None:
            raise ValueError("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
        try:
            return cls.from_der(binascii.a2b_base64(match[1]))
        except (ValueError, IndexError, StopIteration) as error:
            raise ValueError(f"its certificate cannot be read ({error or 'it ends too soon'})") from error

    @classmethod
    def from_der(cls, content: bytes) -> Certificate:
        """Parse DER. Raises ValueError, IndexError, StopIteration."""
        certificate = next(_items(content))
        parts = [part for part in _items(next(_items(certificate[1]))[1]) if part[0] != _VERSION]
        # serial number, signature algorithm, issuer, validity, subject, key, then optional items
        begins, until = (_time(*part) for part in _items(parts[3][1]))
        names: list[str] = []
        for tag, value in parts[6:]:
            if tag == _EXTENSIONS:
                for _, extension in _items(next(_items(value))[1]):
                    (_, identifier), *_, (_, inner) = _items(extension)
                    if identifier == _ALTERNATIVE_NAMES:
                        names += _names(inner)
        return cls(tuple(names), begins, until)


def _names(content: bytes) -> Iterator[str]:
    for tag, value in _items(next(_items(content))[1]):
        if tag == _DNS:
            yield value.decode("ascii").lower()
        elif tag == _IP:
            yield str(ip_address(value))


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each item. Raises ValueError for an item that is cut."""
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(content[at : at + size], "big"), at + size
        if at + length > len(content):
            raise ValueError("it ends too soon")
        yield tag, content[at : at + length]
        at += length


def _time(tag: int, value: bytes) -> datetime:
    """Parse a time (RFC 5280 §4.1.2.5). Years of two digits from 50 on are of the last century."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("it has no dates")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
