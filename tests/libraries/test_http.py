"""Clients of HTTP: five requests at once to a server that takes 0.2 s for each."""

from __future__ import annotations

import http.client
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import pytest
import requests
import urllib3

from ..conftest import BACKENDS
from .five import five

pytestmark = pytest.mark.usefixtures("hooked")

EXPECTED = [f"GET /{number}" for number in range(5)]


@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_requests(http_url: str, anyio_backend: Any) -> None:
    assert await five("requests", lambda number: requests.get(f"{http_url}/{number}", timeout=10).text) == EXPECTED


async def test_a_session_of_requests(http_url: str) -> None:
    with requests.Session() as session:
        found = await five("requests.Session", lambda number: session.get(f"{http_url}/{number}", timeout=10).text)
    assert found == EXPECTED


@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_urllib3(http_url: str, anyio_backend: Any) -> None:
    with urllib3.PoolManager(maxsize=5) as pool:
        found = await five("urllib3", lambda number: pool.request("GET", f"{http_url}/{number}").data.decode())
    assert found == EXPECTED


async def test_a_pool_of_urllib3_that_is_too_small(http_url: str) -> None:
    """Three wait for the connections of two: in a queue, with the hooks' locks."""
    with urllib3.PoolManager(maxsize=2, block=True) as pool:
        found = await five(
            "urllib3, 2 connections",
            lambda number: pool.request("GET", f"{http_url}/{number}").data.decode(),
            take_max=5 * 0.2,
        )
    assert found == EXPECTED


async def test_urllib_request(http_url: str) -> None:
    def ask(number: int) -> str:
        with urllib.request.urlopen(f"{http_url}/{number}", timeout=10) as response:
            return str(response.read().decode())

    assert await five("urllib.request", ask) == EXPECTED


async def test_http_client(http_url: str) -> None:
    def ask(number: int) -> str:
        connection = http.client.HTTPConnection(urlsplit(http_url).netloc)
        try:
            connection.request("GET", f"/{number}")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    assert await five("http.client", ask) == EXPECTED


async def test_boto3(http_url: str) -> None:
    config = botocore.config.Config(
        region_name="eu-central-1", retries={"max_attempts": 0}, s3={"addressing_style": "path"}, proxies={}
    )
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=http_url, config=config, **keys)

    def get(number: int) -> str:
        return str(client.get_object(Bucket="b", Key=str(number))["Body"].read().decode())

    try:
        found = await five("boto3", get)
    finally:
        client.close()
    assert found == [f"GET /b/{number}" for number in range(5)]
