"""Flask's and Django's views, written in the usual blocking way: 200 at once, each right about its own globals.

Each meets all the others in the middle, at a barrier, and then gets a word from its neighbour over a socket: run one
after another they would never end.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from werkzeug.test import Client

from coserver import hooks

from .five import side_by_side

COUNT = 200


@pytest.fixture(scope="module", autouse=True)
def _offloaded(_installed: None) -> None:
    """The hooks come before Django is imported, as ``coserver serve`` does it: it keeps connections in a local."""
    hooks.offloaded("sqlite3")


class Meeting:
    """Where all views meet. ``meet(number)`` sleeps, waits for all, and for the neighbour's word."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(COUNT)
        self._stack = ExitStack()
        self._pairs = [socket.socketpair() for _ in range(COUNT)]
        for sock in (sock for pair in self._pairs for sock in pair):
            self._stack.enter_context(sock)

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def meet(self, number: int) -> str:
        time.sleep(0.01)
        self._barrier.wait(20)
        self._pairs[(number + 1) % COUNT][0].sendall(str(number).encode())
        return self._pairs[number][1].recv(10).decode()


def expected(number: int) -> str:
    return str((number - 1) % COUNT)


def flask_app(meeting: Meeting) -> flask.Flask:
    app = flask.Flask("views")
    app.secret_key = "secret"
    own = threading.local()

    @app.before_request
    def begin() -> None:
        flask.g.number = int(flask.request.args["number"])
        own.number = flask.g.number

    @app.get("/view")
    def view() -> dict[str, Any]:
        number = flask.g.number
        flask.session["number"] = number
        word = meeting.meet(number)
        return {
            "word": word,
            "seen": [flask.g.number, int(flask.request.args["number"]), own.number, flask.session["number"]],
            "url": flask.url_for("view", number=number),
        }

    return app


@pytest.mark.usefixtures("hooked")
async def test_flask() -> None:
    with Meeting() as meeting:
        app = flask_app(meeting)

        def ask(number: int) -> Any:
            answer = app.test_client().get(f"/view?number={number}")
            assert answer.status_code == 200, answer.text
            return answer.json

        run = await side_by_side(ask, COUNT)
    print(f"{COUNT} x Flask: {run.took:.3f} s, longest stall {run.stall * 1000:.1f} ms")
    for number, found in enumerate(run.results):
        assert found == {"word": expected(number), "seen": [number] * 4, "url": f"/view?number={number}"}


@pytest.fixture(scope="module")
def django_app(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, SimpleNamespace]:
    """The WSGI application, and where its view finds its ``meeting``."""
    return make_django(tmp_path_factory.mktemp("django"))


def make_django(folder: Path) -> tuple[Any, SimpleNamespace]:
    import django
    from django.conf import settings

    place = SimpleNamespace(meeting=None)
    settings.configure(
        SECRET_KEY="secret", ALLOWED_HOSTS=["*"], ROOT_URLCONF=_Urls,
        MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"],
        LANGUAGES=[("de", "Deutsch"), ("fr", "Français")], LANGUAGE_CODE="fr", USE_I18N=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db")}},
    )  # fmt: skip
    django.setup()

    from django.core.wsgi import get_wsgi_application
    from django.db import connections, transaction
    from django.http import HttpRequest, JsonResponse
    from django.urls import path, reverse
    from django.utils.translation import get_language

    own = threading.local()

    def view(request: HttpRequest, number: int) -> JsonResponse:
        own.number = number
        with transaction.atomic(), connections["default"].cursor() as cursor:
            # A temporary table is its connection's own.
            cursor.execute("create temporary table mine (number int)")
            cursor.execute("insert into mine values (%s)", [number])
        connection = connections["default"]
        word = place.meeting.meet(number)
        assert connections["default"] is connection
        with connections["default"].cursor() as cursor:
            cursor.execute("select number from mine")
            rows = [row[0] for row in cursor.fetchall()]
        found = {"word": word, "seen": [*rows, own.number, int(request.GET["number"])]}
        return JsonResponse({**found, "language": get_language(), "url": reverse("view", args=[number])})

    _Urls.urlpatterns = [path("view/<int:number>", view, name="view")]
    return get_wsgi_application(), place


class _Urls:
    """What Django takes for a module of URLs."""

    urlpatterns: list[Any]


@pytest.mark.usefixtures("hooked")
async def test_django(django_app: tuple[Any, SimpleNamespace]) -> None:
    application, place = django_app
    languages = ("de", "fr")

    def ask(number: int) -> Any:
        client = Client(application)
        language = {"Accept-Language": languages[number % 2]}
        answer = client.get(f"/view/{number}?number={number}", headers=language)
        assert answer.status_code == 200, answer.text
        return answer.json

    with Meeting() as place.meeting:
        run = await side_by_side(ask, COUNT)
    print(f"{COUNT} x Django: {run.took:.3f} s, longest stall {run.stall * 1000:.1f} ms")
    for number, found in enumerate(run.results):
        answer = {"word": expected(number), "seen": [number] * 3, "language": languages[number % 2]}
        assert found == {**answer, "url": f"/view/{number}"}
