"""What is read of a certificate, with the cryptography package as the other opinion; ValueError for all the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.x509 import Certificate

from ..certificates import authority, issue

PEM = (
    issue("a.example", "*.B.example", "127.0.0.1", "2001:db8::1", "me@mail.example", days=45).cert_chain_pems[0].bytes()
)


def test_names_and_dates() -> None:
    known, other = Certificate.from_pem(PEM), x509.load_pem_x509_certificate(PEM)
    assert known.names == ("a.example", "*.b.example", "127.0.0.1", "2001:db8::1")
    assert known.begins == other.not_valid_before_utc
    assert known.until == other.not_valid_after_utc
    assert known.until - known.begins > timedelta(days=100)


def test_the_first_of_several_and_what_stands_around_it() -> None:
    content = b"Bag Attributes: none\n" + PEM + authority().cert_pem.bytes()
    assert Certificate.from_pem(content.replace(b"\n", b"\r\n")) == Certificate.from_pem(PEM)


def test_one_without_names() -> None:
    assert Certificate.from_pem(authority().cert_pem.bytes()).names == ()


@pytest.mark.parametrize("content", [b"", b"hello", PEM.replace(b"BEGIN CERT", b"BEGIN DIRT")])
def test_no_certificate(content: bytes) -> None:
    with pytest.raises(ValueError, match="it holds no certificate in PEM"):
        Certificate.from_pem(content)


def test_half_a_certificate() -> None:
    lines = PEM.splitlines(keepends=True)
    with pytest.raises(ValueError, match="its certificate cannot be read"):
        Certificate.from_pem(b"".join([*lines[:4], lines[-1]]))


@given(st.integers(0, len(PEM) - 1), st.binary(min_size=1, max_size=4))
def test_a_changed_one(at: int, other: bytes) -> None:
    try:
        Certificate.from_pem(PEM[:at] + other + PEM[at + len(other) :])
    except ValueError:
        pass
