"""Keywords that a call does not have: the error names the one that was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coserver import App, Limits, Tls, UpstreamLimits, UpstreamTls
from coserver.keywords import checked_keywords

UNKNOWN: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (lambda **given: App().start(**given), {"prot": 3}, r"a server has no option 'prot'; did you mean 'port'\?"),
    (lambda **given: App().start(isolated=True, **given), {"prot": 3}, r"did you mean 'port'\?"),
    (lambda **given: App().run(**given), {"Port": 3}, r"did you mean 'port'\?"),
    (lambda **given: App().serving(**given), {"acces_log": True}, r"did you mean 'access_log'\?"),
    (lambda **given: App().start(**given), {"workers": 4}, "one process with one loop"),
    (lambda **given: App().start(**given), {"ssl_certfile": "a.pem"}, r"tls=Tls\(certfile="),
    (lambda **given: App().start(**given), {"zzzz": 4}, "there are access_format, access_log, backend"),
    (lambda **given: App().listen(**given), {"prot": 3}, r"a listener has no option 'prot'; did you mean 'port'\?"),
    (App, {"port": 3}, r"an App has no option 'port'; it is for app\.start and app\.run"),
    (App, {"title": "x"}, r"did you mean 'name'\?"),
    (App, {"limit": Limits()}, r"did you mean 'limits'\?"),
    (lambda **given: App().get("/", **given), {"methods": ["PUT"]}, r"@app\.route\('/path', methods=\[\.\.\.\]\)"),
    (lambda **given: App().route("/", **given), {"response_model": int}, "a route has no option 'response_model'"),
    (Limits, {"bodysize": 3}, r"Limits has no option 'bodysize'; did you mean 'body_size'\?"),
    (lambda **given: replace(Limits(), **given), {"bodysize": 3}, r"did you mean 'body_size'\?"),
    (UpstreamLimits, {"conect_timeout": 3}, r"did you mean 'connect_timeout'\?"),
    (Tls, {"cert": "a.pem"}, r"did you mean 'certfile'\?"),
    (UpstreamTls, {"ca_cert": "a.pem"}, r"did you mean 'ca_certs'\?"),
]


@pytest.mark.parametrize(
    ("call", "given", "said"), UNKNOWN, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_unknown_keywords(call: Callable[..., Any], given: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        call(**given)


async def test_serve() -> None:
    options: Any = {"prot": 3}
    with pytest.raises(TypeError, match="did you mean 'port'"):
        await App().serve(**options)


def test_a_running_server_goes_on() -> None:
    app = App("kept")
    with app.start() as server:
        options: Any = {"prot": 3}
        with pytest.raises(TypeError, match="did you mean 'port'"):
            app.start(**options)
        assert server.running


def test_the_signature_stays() -> None:
    assert list(inspect.signature(App).parameters) == ["name", "limits", "hooks", "offloaded"]
    assert "body_size" in inspect.signature(Limits).parameters

    @checked_keywords("a thing", colour="paint it")
    def make(size: int, *, deep: bool = False) -> tuple[int, bool]:
        """Make it."""
        inner = size  # no keyword, though a name of the function
        return inner, deep

    assert (make.__doc__, make.__name__) == ("Make it.", "make")
    assert make(1, deep=True) == make(size=1, deep=True) == (1, True)
    wrong: Any = make
    for name, said in (("colour", "paint it"), ("inner", "there are deep, size"), ("dep", "did you mean 'deep'")):
        with pytest.raises(TypeError, match=f"a thing has no option '{name}'; {said}"):
            wrong(1, **{name: 1})
