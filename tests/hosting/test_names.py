"""Handlers and routes as the frameworks know them: in traces, metrics and filters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import coserver
from coserver import App

from ..server.clients import get, talking, until


def fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/items/{number}")
    async def read_item(number: int) -> dict[str, int]:
        return {"number": number}

    return app


def flask() -> Any:
    from flask import Flask

    app = Flask("shop")

    @app.get("/items/<int:number>")
    def read_item(number: int) -> dict[str, int]:
        return {"number": number}

    return app


#: In a process of its own: Django's settings are those of a process.
DJANGO = """
import sys, time, types
import django
from django.conf import settings
from django.http import JsonResponse
from django.urls import path
import coserver, httpx2

def read_item(request, number):
    return JsonResponse({"number": number})

urls = types.ModuleType("urls")
urls.urlpatterns = [path("items/<int:number>", read_item)]
sys.modules["urls"] = urls
settings.configure(SECRET_KEY="x", ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"])
django.setup()
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

for app in (get_wsgi_application(), get_asgi_application()):
    with coserver.start(app) as server:
        server.traces.start()
        assert httpx2.get(server.url + "/items/3").json() == {"number": 3}
        while not len(server.traces):
            time.sleep(0.01)
        print(server.traces[0].handler, server.traces[0].route)
"""


def test_names_of_django() -> None:
    pytest.importorskip("django")
    done = subprocess.run([sys.executable, "-c", DJANGO], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["__main__.read_item /items/<int:number>"] * 2, done.stderr


@pytest.mark.parametrize(("make", "route"), [
    (fastapi, "/items/{number}"), (flask, "/items/<int:number>"),
])  # fmt: skip
async def test_names_of_the_framework(make: Callable[[], Any], route: str) -> None:
    pytest.importorskip(make.__name__)
    outer = App("outer")
    outer.mount("/api", coserver.host(make(), lifespan="off"))
    async with talking(outer) as (server, client):
        server.traces.start()
        server.measure()
        assert (await client.ask(get("/api/items/3"))).text.replace(" ", "").strip() == '{"number":3}'
        assert (await client.ask(get("/api/nowhere"))).status == 404
        await until(lambda: len(server.traces) == 2)
        first, second = sorted(server.traces, key=lambda one: one.id)
        assert first.handler == f"{__name__}.{make.__name__}.<locals>.read_item"
        assert first.route == f"/api{route}"
        assert second.route == "/api/…"
        text = server.metrics()
        assert f'route="/api{route}"' in text
        assert "items/3" not in text
