"""http.client and urllib: the second oracle."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from coserver import Server

from .asking import BIG, DIGEST, LINES, TIMEOUT


@pytest.fixture
def client(server: Server) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    yield client
    client.close()


def test_everything_on_one_connection(client: http.client.HTTPConnection) -> None:
    def ask(method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        client.request(method, path, body, headers)  # type: ignore[arg-type]
        response = client.getresponse()
        return response.status, response.read()

    _, peer = ask("GET", "/peer")
    for _ in range(3):
        assert ask("GET", "/") == (200, b"hello")
        assert ask("HEAD", "/big") == (200, b"")
        assert ask("GET", "/plain/7") == (200, b'{"number":7}')
        assert ask("GET", "/stream") == (200, LINES.encode())
        assert ask("HEAD", "/stream") == (200, b"")
        assert ask("GET", "/sized") == (200, b"12345" * 10)
        assert ask("GET", "/big") == (200, BIG)
        assert ask("POST", "/echo", b"some body") == (200, b"some body")
        assert ask("POST", "/digest", BIG) == (200, json.dumps(DIGEST, separators=(",", ":")).encode())
        assert ask("POST", "/digest-stream", iter([BIG[:1000], BIG[1000:]]))[1] == ask("POST", "/digest", BIG)[1]
        assert ask("DELETE", "/thing") == (204, b"")
        assert ask("GET", "/nothing")[0] == 404
        assert ask("PUT", "/echo", b"unread")[0] == 405
        assert ask("GET", "/refused")[0] == 418
    assert ask("GET", "/peer")[1] == peer, "the connection was not kept"


def test_the_heads(client: http.client.HTTPConnection) -> None:
    client.request("HEAD", "/big")
    response = client.getresponse()
    response.read()
    assert response.getheader("Content-Length") == str(len(BIG))
    assert response.getheader("Date")
    client.request("GET", "/stream")
    response = client.getresponse()
    response.read()
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
    client.request("POST", "/")
    response = client.getresponse()
    response.read()
    assert response.getheader("Allow") == "GET, HEAD, OPTIONS"


def test_a_connection_that_asks_to_close(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/", headers={"Connection": "close"})
    response = client.getresponse()
    assert response.getheader("Connection") == "close"
    assert response.read() == b"hello"


def test_many_at_once(server: Server) -> None:
    answers: list[bytes] = []

    def ask(number: int) -> None:
        client = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
        for _ in range(10):
            client.request("GET", f"/plain/{number}")
            answers.append(client.getresponse().read())
        client.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(answers) == sorted([b'{"number":%d}' % number for number in range(16)] * 10)


def test_urllib(server: Server) -> None:
    with urllib.request.urlopen(server.url + "/plain/1", timeout=TIMEOUT) as response:
        assert json.load(response) == {"number": 1}
    with urllib.request.urlopen(server.url + "/digest", data=BIG, timeout=TIMEOUT) as response:
        assert json.load(response) == DIGEST
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.url + "/refused", timeout=TIMEOUT)
    with caught.value as error:
        assert error.status == 418
        assert error.headers["x-pot"] == "tea"
        assert error.read() == b"418 I'm a Teapot\nno coffee here\n"
