"""Who the client is: by the peer, and by the word of proxies that are trusted."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, Request, SetupError, testing
from coserver.server.handler.request import make_request_id
from coserver.server.handler.trusted_proxies import Trust
from coserver.transport.peer import host_of

from ..clients import Parser, get, talking


def said(*values: str, name: str = "x-forwarded-for") -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("peers", "peer", "values", "client"),
    [
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.1"], "192.0.2.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", [], "10.0.0.1"),
        (["10.0.0.0/8"], "11.0.0.1:99", ["192.0.2.1"], "11.0.0.1"),  # nobody's word
        (["10.0.0.0/8"], "10.0.0.1:99", ["6.6.6.6, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["6.6.6.6", "192.0.2.1", "10.1.1.1"], "192.0.2.1"),  # one list, three fields
        (["10.0.0.0/8"], "10.0.0.1:99", ["10.2.2.2, 10.1.1.1"], "10.2.2.2"),  # all trusted: the first of them
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.1, nonsense, 10.1.1.1"], "10.1.1.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.1,,10.1.1.1"], "10.1.1.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", [""], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["unknown"], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ['"><script>'], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.1:4711"], "192.0.2.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.1:471111"], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.256"], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["192.0.2.01"], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["2001:DB8::1"], "2001:db8::1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["[2001:db8::1]"], "2001:db8::1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["[2001:db8::1]:80"], "2001:db8::1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["[2001:db8::1"], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["fe80::1%eth0"], "fe80::1%eth0"),
        (["10.0.0.0/8"], "10.0.0.1:99", ['fe80::1%"x'], "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1:99", ["::ffff:192.0.2.1"], "192.0.2.1"),
        (["10.0.0.0/8"], "[::ffff:10.0.0.1]:99", ["192.0.2.1"], "192.0.2.1"),
        (["::ffff:10.0.0.0/104"], "10.0.0.1:99", ["192.0.2.1"], "192.0.2.1"),
        (["fe80::/10", "::1"], "[::1]:99", ["192.0.2.1, fe80::1%eth0"], "192.0.2.1"),
        (["unix"], "unix", ["192.0.2.1"], "192.0.2.1"),
        (["unix"], "unix", ["192.0.2.1, unix:"], "192.0.2.1"),  # nginx behind nginx, both on UNIX sockets
        (["unix"], "127.0.0.1:5", ["192.0.2.1"], "127.0.0.1"),
        (["10.0.0.1"], "unix", ["192.0.2.1"], "unix"),
        (["*"], "unix", ["192.0.2.1, 192.0.2.2"], "192.0.2.1"),
        (["*"], "in memory", ["192.0.2.1"], "192.0.2.1"),
        (["*"], "in memory", [], "in memory"),
        ([], "in memory", ["192.0.2.1"], "in memory"),
    ],
)
def test_the_client(peers: list[str], peer: str, values: list[str], client: str) -> None:
    assert Trust(peers).client(peer, said(*values)) == client


def test_a_walk_has_an_end() -> None:
    """32 KiB of trusted addresses cost no more than a few."""
    trust = Trust(["10.0.0.0/8"])
    assert trust.client("10.0.0.1:1", said("192.0.2.1" + ",10.0.0.2" * 3000)) == "10.0.0.2"
    assert trust.client("10.0.0.1:1", said("192.0.2.1" + ",10.0.0.2" * 31)) == "192.0.2.1"
    assert trust.client("10.0.0.1:1", said("192.0.2.1" + ",10.0.0.2" * 32)) == "10.0.0.2"
    assert trust.client("10.0.0.1:1", said("1" * 30_000)) == "10.0.0.1"


_strange = st.text(st.characters(max_codepoint=255), max_size=60)
_entries = st.one_of(_strange, st.ip_addresses().map(str), st.sampled_from(["10.1.1.1", "[::1]:80", "unix:", ""]))


@given(st.lists(_entries, max_size=5))
def test_whatever_comes_the_client_is_an_address(entries: list[str]) -> None:
    client = Trust(["10.0.0.0/8"]).client("10.0.0.1:1", said(",".join(entries)))
    assert client == "unix" or ip_address(client)


@pytest.mark.parametrize(
    ("peer", "values", "scheme"),
    [
        ("10.0.0.1:1", ["https"], "https"),
        ("10.0.0.1:1", ["HTTPS"], "https"),
        ("10.0.0.1:1", ["https, http"], "http"),  # the nearest proxy's word
        ("10.0.0.1:1", ["http", "https"], "https"),
        ("10.0.0.1:1", ["javascript"], "http"),
        ("10.0.0.1:1", [], "http"),
        ("11.0.0.1:1", ["https"], "http"),
    ],
)
def test_the_scheme(peer: str, values: list[str], scheme: str) -> None:
    assert Trust(["10.0.0.1"]).scheme(peer, said(*values, name="x-forwarded-proto")) == scheme


@pytest.mark.parametrize(
    ("peer", "values", "client", "scheme", "host"),
    [
        ("10.0.0.1:1", ["for=192.0.2.1;proto=https;host=shop.example"], "192.0.2.1", "https", "shop.example"),
        ("10.0.0.1:1", ['For="[2001:db8::1]:99";Proto=HTTPS'], "2001:db8::1", "https", ""),
        ("10.0.0.1:1", ['for="192.0.2.1:99";host="a:8080"'], "192.0.2.1", "http", "a:8080"),
        ("11.0.0.1:1", ["for=192.0.2.1;proto=https;host=shop.example"], "11.0.0.1", "http", ""),  # nobody's word
        # What stands left of the first that is not trusted is his own word; what counts is what was said of him.
        (
            "10.0.0.1:1",
            ["for=6.6.6.6;proto=https;host=evil, for=192.0.2.1;host=good, for=10.1.1.1;proto=https;host=inner"],
            "192.0.2.1", "http", "good",
        ),
        ("10.0.0.1:1", ["for=192.0.2.1;proto=https;host=good", "for=10.1.1.1;host=in"], "192.0.2.1", "https", "good"),
        ("10.0.0.1:1", ["for=unknown;proto=https"], "10.0.0.1", "https", ""),
        ("10.0.0.1:1", ["for=192.0.2.1, for=_hidden;proto=https, for=10.1.1.1"], "10.1.1.1", "https", ""),
        ("10.0.0.1:1", ["proto=https"], "10.0.0.1", "https", ""),
        ("10.0.0.1:1", ["nonsense"], "10.0.0.1", "http", ""),
        ("10.0.0.1:1", ['for="an open quote, for=192.0.2.1'], "192.0.2.1", "http", ""),
        ("10.0.0.1:1", ["for=192.0.2.1;proto=gopher;host=\"a b\""], "192.0.2.1", "http", ""),
        ("10.0.0.1:1", [], "10.0.0.1", "http", ""),
    ],
)  # fmt: skip
def test_forwarded(peer: str, values: list[str], client: str, scheme: str, host: str) -> None:
    trust = Trust(["10.0.0.0/8"], "forwarded")
    fields = [*said(*values, name="forwarded"), *said("7.7.7.7"), *said("https", name="x-forwarded-proto")]
    assert (trust.client(peer, fields), trust.scheme(peer, fields), trust.host(peer, fields)) == (client, scheme, host)


def test_the_other_kind_is_not_believed() -> None:
    """The proxies pass it on as the client wrote it."""
    fields = [*said("for=6.6.6.6;proto=https;host=evil", name="forwarded"), *said("192.0.2.1")]
    trust = Trust(["10.0.0.0/8"])
    assert trust.client("10.0.0.1:1", fields) == "192.0.2.1"
    assert (trust.scheme("10.0.0.1:1", fields), trust.host("10.0.0.1:1", fields)) == ("http", "")
    with pytest.raises(SetupError, match="forwarded_fields must be 'x-forwarded' or 'forwarded'; got 'both'"):
        App().start(forwarded_fields="both")


@pytest.mark.parametrize(
    ("values", "host"),
    [
        (["shop.example"], "shop.example"),
        (["evil, shop.example:443"], "shop.example:443"),
        (["[::1]:8000"], "[::1]:8000"),
        (["a b"], ""),
        (["user@shop"], ""),
        (["caf\xe9"], ""),
        ([""], ""),
        ([], ""),
    ],
)
def test_the_host(values: list[str], host: str) -> None:
    trust = Trust(["10.0.0.1"])
    assert trust.host("10.0.0.1:1", said(*values, name="x-forwarded-host")) == host
    assert trust.host("10.0.0.2:1", said(*values, name="x-forwarded-host")) == ""


@given(st.lists(_entries, max_size=5))
def test_whatever_comes_as_forwarded_the_client_is_an_address(entries: list[str]) -> None:
    fields = said(",".join(f'for="{entry}"' for entry in entries), name="forwarded")
    client = Trust(["10.0.0.0/8"], "forwarded").client("10.0.0.1:1", fields)
    assert client == "unix" or ip_address(client)


@pytest.mark.parametrize(
    ("peer", "values", "found"),
    [
        ("10.0.0.1:1", ["abc-123"], "abc-123"),
        ("10.0.0.1:1", ["x" * 128], "x" * 128),
        ("10.0.0.1:1", ["x" * 129], None),
        ("10.0.0.1:1", [""], None),
        ("10.0.0.1:1", ["a b"], None),
        ("10.0.0.1:1", ["a\tb"], None),
        ("10.0.0.1:1", ["caf\xe9"], None),
        ("10.0.0.1:1", ["one", "two"], None),
        ("10.0.0.1:1", [], None),
        ("11.0.0.1:1", ["abc-123"], None),
    ],
)
def test_the_request_id(peer: str, values: list[str], found: str | None) -> None:
    assert Trust(["10.0.0.1"]).request_id(peer, said(*values, name="x-request-id")) == found


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        ("localhost", r"an entry is an address .*; got 'localhost'"),
        ("", "got ''"),
        ("10.0.0.1:80", "got '10.0.0.1:80'"),
        ("10.0.0.1/8", "write the address alone, or 10.0.0.0/8"),
        ("10.0.0.0/33", "got '10.0.0.0/33'"),
        ("fe80::1%eth0", "an address must have no zone"),
    ],
)
def test_what_can_be_trusted(peer: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        Trust(["127.0.0.1", peer])
    with pytest.raises(SetupError, match=message):
        App().start(trusted_peers=["127.0.0.1", peer])


def test_an_address_without_its_port() -> None:
    peers = ["127.0.0.1:4711", "[::1]:4711", "[::ffff:192.0.2.1]:5", "unix", "in memory", "client 1", ""]
    assert [host_of(peer) for peer in peers] == ["127.0.0.1", "::1", "192.0.2.1", "unix", "in memory", "client 1", ""]


def test_made_ids_differ_from_process_to_process(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = make_request_id(255)
    assert mine.endswith("-ff")
    assert mine == make_request_id(255)
    monkeypatch.setattr("os.getpid", lambda: -1)  # as after a fork, with all that was made before it
    theirs = make_request_id(255)
    assert theirs.endswith("-ff")
    assert theirs != mine


def asked(app: App) -> None:
    @app.get("/async")
    async def asynchronous(request: Request) -> list[str]:
        assert request.request_id == request.request_id
        return [request.client, request.scheme, request.request_id]

    @app.get("/def")
    def blocking(request: Request) -> list[str]:
        return [request.client, request.scheme, request.request_id]


FORWARDED = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Request-ID: its-own")


@pytest.mark.parametrize("path", ["/async", "/def"])
async def test_a_handler_asks(path: str) -> None:
    app = App()
    asked(app)
    async with talking(app, trusted_peers=["127.0.0.1"]) as (_, client):
        assert (await client.ask(get(path, *FORWARDED))).text == '["192.0.2.1","https","its-own"]'
        answer = await client.ask(get(path))
        assert answer.text.startswith('["127.0.0.1","http","')
        assert answer.text != (await client.ask(get(path))).text  # another id
    async with talking(app, trusted_peers=["127.0.0.1"], forwarded_fields="forwarded") as (_, client):
        answer = await client.ask(get(path, *FORWARDED, "Forwarded: for=192.0.2.7;proto=https"))
        assert answer.text == '["192.0.2.7","https","its-own"]'
    async with talking(app) as (_, client):
        answer = await client.ask(get(path, *FORWARDED))
        assert answer.text.startswith('["127.0.0.1","http","')
        assert "its-own" not in answer.text


async def test_behind_a_unix_socket(tmp_path: Path) -> None:
    app = App()
    asked(app)
    path = str(tmp_path / "s")
    async with (
        testing.serving(app, uds=path, trusted_peers=["unix"]),
        await anyio.connect_unix(path) as stream,
    ):
        parser = Parser()
        await stream.send(get("/async", *FORWARDED))
        parser.feed(b"" + await stream.receive())
        answer = parser.next()
        assert answer is not None
        assert answer.text == '["192.0.2.1","https","its-own"]'


async def test_a_failing_handlers_log_line_bears_the_id(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def fail() -> None:
        raise KeyError("x")

    @app.get("/stream")
    async def break_off() -> object:
        async def pieces() -> object:
            yield "one"
            raise KeyError("y")

        return pieces()

    async with talking(app, trusted_peers=["127.0.0.1"]) as (_, client):
        assert (await client.ask(get("/", "X-Request-ID: mine"))).status == 500
        await client.send(get("/stream", "X-Request-ID: other"))
        await client.gone()
    first, second = caplog.records
    assert first.message.endswith(f"failed on <Exchange {first.exchange} GET / unanswered>, request id mine")
    assert second.message.endswith("request id other")
    assert [(record.request_id, record.connection) for record in (first, second)] == [
        (name, first.connection) for name in ("mine", "other")
    ]
