"""The stepper's panel without a page: held exchanges, changes, buttons."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from coserver import App
from coserver.app.server import Server
from coserver.notebook.clicks import Wrong
from coserver.notebook.step import StepPanel


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    app = App("stepped")

    @app.post("/items/{id}")
    def item(id: int, request: Any) -> dict[str, Any]:
        return {"id": id, "got": request.json(), "tag": request.headers.get("x-tag")}

    with app.start() as one:
        yield one


class Client(threading.Thread):
    def __init__(self, server: Server, target: str) -> None:
        super().__init__()
        self.said: Any = None
        self._where, self._target = (server.host, server.port), target
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=20)
        try:
            connection.request("POST", self._target, b'{"a": 1}', {"content-type": "application/json"})
            response = connection.getresponse()
            self.said = response.status, response.read().decode()
        except OSError as error:
            self.said = error
        finally:
            connection.close()


def shown(panel: StepPanel) -> dict[str, Any]:
    found = panel.draw().since(None)
    assert found is not None
    return found


def test_it_shows_what_is_held_and_what_changes(server: Server) -> None:
    with server.step("~u /items/") as step:
        panel = StepPanel(step, "stepped")
        assert (shown(panel)["chosen"], shown(panel)["html"]) == (None, "")
        client = Client(server, "/items/7?token=abcdef&<script>")
        held = step.wait(20)
        first = shown(panel)
        assert (first["phase"], first["chosen"]) == ("handler", held.id)
        assert "cos-changed" not in first["html"]
        assert "abcdef" not in repr(first)
        assert "<script" not in first["html"]
        assert panel.draw().since(panel.draw()) is None  # time that passes is no change
        panel.answer("edit", {"held": held.id, "line": "X-Tag:a body='{\"b\": 2}'"})
        edited = shown(panel)["html"]
        assert '<div class="cos-changed"><b>x-tag:</b> a</div>' in edited
        assert '<pre class="cos-changed">' in edited
        panel.answer("next", {"held": held.id})
        while (later := step.wait(20)).id == held.id:
            pass
        second = shown(panel)
        assert (second["phase"], second["chosen"]) == ("response", later.id)
        assert "cos-changed" in second["html"].split("←")[0].splitlines()[-1]  # its answer is new
        assert "x-tag" in second["html"]
        assert '<div class="cos-changed"><b>x-tag' not in second["html"]
        panel.answer("resume", {"held": later.id})
        client.join()
        assert client.said == (200, '{"id":7,"got":{"b":2},"tag":"a"}')


def test_each_button_is_a_method(server: Server) -> None:
    with server.step("~u /items/") as step:
        panel = StepPanel(step, "stepped")
        clients = [Client(server, f"/items/{number}") for number in range(3)]
        while len(step.waiting) < 3:
            step.wait(20)
        one, two, three = step.waiting
        panel.answer("choose", {"held": two.id})
        assert shown(panel)["chosen"] == two.id
        assert len(shown(panel)["held"]) == 3
        panel.answer("respond", {"held": one.id, "line": "503 'come later' Retry-After:5"})
        panel.answer("abort", {"held": two.id})
        panel.answer("until", {"held": three.id, "line": "response"})
        while (held := step.wait(20)).phase != "response":
            pass
        panel.answer("close", {})
        for client in clients:
            client.join()
        assert sorted(str(client.said)[:4] for client in clients)[0] in ("(200", "(503")
        assert (503, "come later") in [client.said for client in clients]
        assert held.over
        assert panel.over()


@pytest.mark.parametrize(
    ("what", "line", "said"),
    [
        ("edit", "nonsense", "changes nothing"),
        ("edit", "status=x", "three digits"),
        ("respond", "now", "three digits"),
        ("until", "nowhere", "nothing can be held at 'nowhere'"),
        ("dance", "", "it has next, resume"),
    ],
)
def test_what_cannot_be_is_said(server: Server, what: str, line: str, said: str) -> None:
    with server.step("~u /items/") as step:
        panel = StepPanel(step, "stepped")
        client = Client(server, "/items/7")
        held = step.wait(20)
        with pytest.raises(Wrong, match=said):
            panel.answer(what, {"held": held.id, "line": line})
        assert step.waiting == [held]
        held.resume()
        client.join()
        with pytest.raises(Wrong, match=r"is not held|nothing is held"):
            panel.answer("next", {"held": held.id})
