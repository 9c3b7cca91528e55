import anyio

from coserver import App, testing


async def test_get(codec: str) -> None:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    async with testing.serving(app, codec=codec) as server, await anyio.connect_tcp("127.0.0.1", server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await client.receive()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok")
