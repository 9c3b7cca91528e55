"""Handlers and routes as the frameworks know them: in traces, metrics and filters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
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


def django() -> Any:
    import django
    from django.conf import settings
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def read_item(request: HttpRequest, number: int) -> JsonResponse:
        return JsonResponse({"number": number})

    module = ModuleType("names_urls")
    module.urlpatterns = [path("items/<int:number>", read_item)]  # type: ignore[attr-defined]
    sys.modules["names_urls"] = module
    if not settings.configured:
        settings.configure(SECRET_KEY="x", ROOT_URLCONF="names_urls", ALLOWED_HOSTS=["*"])
        django.setup()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


@pytest.mark.parametrize(("make", "route"), [
    (fastapi, "/items/{number}"), (flask, "/items/<int:number>"), (django, "/items/<int:number>"),
])  # fmt: skip
async def test_names_of_the_framework(make: Callable[[], Any], route: str) -> None:
    pytest.importorskip(make.__name__)
    from django.conf import settings

    if make is django and settings.configured and getattr(settings, "ROOT_URLCONF", "") != "names_urls":
        pytest.skip("Django is configured by another test of this process")
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
