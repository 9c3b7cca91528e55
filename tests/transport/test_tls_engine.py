"""The TLS engine: two of them talk through bytes, whole and in pieces, well and badly."""

from __future__ import annotations

import ssl

import anyio
import pytest

from coserver.transport.tls_engine import RECORD, TlsCut, TlsEngine, TlsError

from ..certificates import client_context, issue, server_context

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
BIG = bytes(range(256)) * 1000


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return request.param


def pass_on(near: TlsEngine, far: TlsEngine, piece: int = 1 << 20) -> None:
    data = near.take()
    for start in range(0, len(data), piece):
        far.feed(data[start : start + piece])


def shake(client: TlsEngine, server: TlsEngine, piece: int = 1 << 20) -> None:
    """Bring the handshake to its end, in pieces of so many bytes."""
    done: set[TlsEngine] = set()
    for _ in range(10):
        for near, far in ((client, server), (server, client)):
            if near.handshake():
                done.add(near)
            data = near.take()
            for start in range(0, len(data), piece):
                far.feed(data[start : start + piece])
                if piece < len(data) and far not in done and far.handshake():
                    done.add(far)
        if len(done) == 2:
            return
    raise AssertionError("the handshake has no end")


def pair(version: ssl.TLSVersion | None = None, piece: int = 1 << 20) -> tuple[TlsEngine, TlsEngine]:
    client = TlsEngine(client_context(version=version), server_hostname="localhost")
    server = TlsEngine(server_context(), server_side=True)
    shake(client, server, piece)
    return client, server


def read_all(engine: TlsEngine) -> bytes:
    found = b""
    while data := engine.read():
        found += data
    return found


def write_all(engine: TlsEngine, data: bytes) -> None:
    while data:
        data = data[engine.write(data) :]


def test_there_and_back(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    for near, far in ((client, server), (server, client)):
        write_all(near, b"hello")
        pass_on(near, far)
        assert far.readable
        assert read_all(far) == b"hello"
        assert not far.readable
    assert repr(client) == f"<TlsEngine {client.object.version()}>"


def test_byte_by_byte(version: ssl.TLSVersion) -> None:
    client, server = pair(version, piece=1)
    write_all(client, b"hello")
    data, found = client.take(), b""
    for at in range(len(data)):
        server.feed(data[at : at + 1])
        found += server.read()
        assert found == (b"" if at < len(data) - 1 else b"hello")


def test_more_than_a_record(version: ssl.TLSVersion) -> None:
    """What came at once is given to OpenSSL in portions, and read a record at a time."""
    client, server = pair(version)
    assert client.write(BIG) == RECORD
    write_all(client, BIG[RECORD:])
    pass_on(client, server)
    assert server.read(10) == BIG[:10]
    assert server.readable
    assert read_all(server) == BIG[10:]
    assert not server.readable


def test_fed_before_all_was_read() -> None:
    client, server = pair()
    write_all(client, BIG)
    pass_on(client, server)
    write_all(client, b"more")
    pass_on(client, server)
    assert read_all(server) == BIG + b"more"


def test_closed_in_the_middle(version: ssl.TLSVersion) -> None:
    """Who closes can still read what was on its way, and what comes after it; both ends are orderly."""
    client, server = pair(version)
    write_all(client, BIG)
    pass_on(client, server)
    assert server.read(5) == BIG[:5]
    server.close()
    pass_on(server, client)
    assert read_all(server) == BIG[5:]
    assert client.read() == b""
    assert client.ended
    assert not server.ended
    write_all(client, b"later")
    client.close()
    pass_on(client, server)
    assert read_all(server) == b"later"
    assert server.ended
    assert "ended" in repr(server)
    server.close()
    assert server.read() == b""


def test_cut_is_not_ended(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    write_all(client, b"all?")
    pass_on(client, server)
    server.feed_eof()
    assert server.read() == b"all?"
    with pytest.raises(TlsCut, match="no close-notify") as caught:
        server.read()
    assert isinstance(caught.value, anyio.BrokenResourceError)
    assert not server.ended


def test_garbage_after_the_handshake(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    server.take()
    server.feed(b"garbage, and no record at all")
    with pytest.raises(TlsError, match="no TLS"):
        server.read()
    assert server.pending  # the alert
    pass_on(server, client)
    with pytest.raises(TlsError):
        read_all(client)


def test_a_changed_record(version: ssl.TLSVersion) -> None:
    client, server = pair(version)
    write_all(client, b"pay 100")
    data = bytearray(client.take())
    data[-1] ^= 1
    server.feed(bytes(data))
    with pytest.raises(TlsError, match="bad record mac"):
        server.read()


@pytest.mark.parametrize(
    ("first", "said"),
    [(b"GET / HTTP/1.1\r\n\r\n", "plain HTTP"), (b"\x00" * 40, "no TLS|record"), (b"EHLO x\r\n", "no TLS")],
)
def test_no_hello(first: bytes, said: str) -> None:
    server = TlsEngine(server_context(), server_side=True)
    server.feed(first)
    with pytest.raises(TlsError, match=said):
        server.handshake()


def test_certificates_that_are_refused() -> None:
    """Each side says whose fault it is."""
    strict = server_context()
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(cadata=_pem("ours"))
    for context, told in (
        (client_context(), "showed no certificate"),
        (client_context(shows=issue("me@example.org", by="theirs")), "refused: "),
        (client_context(shows=issue("me@example.org", days=-3)), "refused: certificate has expired"),
        (client_context(trusts="theirs"), "does not trust who signed it"),
    ):
        client, server = TlsEngine(context, server_hostname="localhost"), TlsEngine(strict, server_side=True)
        with pytest.raises(TlsError, match=told):
            _shake_until_one_side_fails(client, server)


def _pem(name: str) -> str:
    from ..certificates import authority

    return authority(name).cert_pem.bytes().decode()


def _shake_until_one_side_fails(client: TlsEngine, server: TlsEngine) -> None:
    """Raises what the server says."""
    for _ in range(5):
        try:
            client.handshake()
        except TlsError:
            pass
        pass_on(client, server)
        server.handshake()
        pass_on(server, client)


def test_the_name_is_checked() -> None:
    client = TlsEngine(client_context(), server_hostname="other.example")
    server = TlsEngine(server_context(), server_side=True)
    with pytest.raises(TlsError, match=r"refused: .*other\.example"):
        shake(client, server)
