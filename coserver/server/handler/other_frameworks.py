"""Names and habits of other frameworks, and the way here: for the messages about them. Loaded at such a mistake.

FastAPI and Starlette, Flask, Django, aiohttp, Express. A name is asked for by ``__getattr__``, which Python calls only
where there is no such name: it costs other names nothing.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Mapping
from types import FrameType
from typing import Any

_QUERY = "request.query: request.query['page'], request.query.get('page', 1, type=int)"
_PARAMS = "a parameter of the handler: @app.get('/items/{id}') and def item(id: int); all are in request.params"
_URL = "request.path, .query_string, .target, .host and .scheme"
_FORM = "request.form(): a file is one of its values, an Upload"
_BODY = "request.body"
_TYPE = "request.headers.get('content-type', '')"
_STATE = "a contextvars.ContextVar, which each request has for itself; app.state is shared by all"
_NO_SESSION = "nothing of the kind; itsdangerous signs a value for response.set_cookie"
_NO_USER = "nothing of the kind; write a decorator for the handlers that need it"

#: Attributes of their requests.
REQUEST: dict[str, str] = {
    "query_params": _QUERY, "args": _QUERY, "GET": _QUERY, "values": f"{_QUERY}; or {_FORM}", "rel_url": _URL,
    "path_params": _PARAMS, "view_args": _PARAMS, "match_info": _PARAMS,
    "url": _URL, "base_url": _URL, "url_root": _URL, "full_path": "request.target", "build_absolute_uri": _URL,
    "get_host": "request.host", "is_secure": "request.scheme == 'https'",
    "data": _BODY, "get_data": _BODY, "read": _BODY, "get_json": "request.json()",
    "is_json": f"{_TYPE} == 'application/json'",
    "files": _FORM, "FILES": _FORM, "POST": _FORM, "post": _FORM, "multipart": _FORM,
    "content_type": _TYPE, "mimetype": _TYPE, "content_length": "len(request.body)", "META": "request.headers",
    "authorization": "request.headers.get('authorization')", "user_agent": "request.headers.get('user-agent')",
    "referrer": "request.headers.get('referer')", "COOKIES": "request.cookies",
    "remote_addr": "request.client", "remote": "request.client",
    "state": _STATE, "session": _NO_SESSION, "user": _NO_USER, "auth": _NO_USER,
    "url_for": "nothing of the kind; write the path", "environ": "request.headers",
    "scope": f"nothing of the kind, there is no ASGI below; {_URL}",
    "is_disconnected": "nothing of the kind; when the client leaves, the handler is cancelled",
}  # fmt: skip

_LIFESPAN = "@app.lifespan: a generator function, with the code of the start before its yield and of the end after it"
_WRAP = "nothing of the kind; write a decorator for the handlers that need it; app.error answers exceptions"
_AFTER = "request.after(function) runs work after one response; for all, write a decorator for the handlers"
_ERROR = "@app.error(404) or @app.error(ValueError)"
_MOUNT = "app.mount('/prefix', other), where other is an App of its own"
_ROUTE = "@app.route('/path', methods=[...]), @app.get('/path'), @app.post('/path') ..."
_WEBSOCKET = (
    "WebSocket is not there yet; Response.events sends events to a browser, @app.tcp talks both ways over TCP"
)
_TEST = "coserver.testing.sync_client(app)"

#: Attributes of their apps.
APP: dict[str, str] = {
    "on_event": _LIFESPAN, "add_event_handler": _LIFESPAN, "on_startup": _LIFESPAN, "on_shutdown": _LIFESPAN,
    "on_cleanup": _LIFESPAN, "cleanup_ctx": _LIFESPAN, "before_first_request": _LIFESPAN,
    "before_serving": _LIFESPAN, "after_serving": _LIFESPAN, "while_serving": _LIFESPAN,
    "teardown_appcontext": _LIFESPAN, "lifespan_context": _LIFESPAN,
    "websocket": _WEBSOCKET, "websocket_route": _WEBSOCKET, "add_websocket_route": _WEBSOCKET,
    "add_api_websocket_route": _WEBSOCKET, "ws": _WEBSOCKET,
    "middleware": _WRAP, "add_middleware": _WRAP, "middlewares": _WRAP, "use": _WRAP, "before_request": _WRAP,
    "after_request": _AFTER, "teardown_request": _AFTER,
    "include_router": _MOUNT, "register_blueprint": _MOUNT, "add_subapp": _MOUNT, "router": _ROUTE,
    "errorhandler": _ERROR, "exception_handler": _ERROR, "add_exception_handler": _ERROR,
    "register_error_handler": _ERROR, "exception_handlers": _ERROR,
    "api_route": _ROUTE, "add_api_route": _ROUTE, "add_route": _ROUTE, "add_url_rule": _ROUTE, "add_routes": _ROUTE,
    "all": _ROUTE, "trace": _ROUTE,
    "test_client": _TEST, "test_request_context": _TEST, "config": "app.state, and arguments of app.start and app.run",
    "url_for": "nothing of the kind; write the path", "url_path_for": "nothing of the kind; write the path",
    "dependency_overrides": "nothing of the kind; a handler calls what it needs",
    "openapi": "nothing of the kind; 'coserver routes' lists the routes", "logger": "logging.getLogger",
    "wsgi_app": "nothing of the kind; coserver speaks neither WSGI nor ASGI; app.run() or 'coserver serve module:app'",
    "debug": "app.run(debug=True), or 'coserver dev module:app'",
    "listen_and_serve": "app.run()", "run_app": "app.run()",
}  # fmt: skip

_PARAMETER = "a parameter of the handler for the path; request.query, request.headers, request.form() for the rest"

#: Names of their packages.
PACKAGE: dict[str, str] = {
    **dict.fromkeys(("FastAPI", "Flask", "Starlette", "Quart", "Sanic", "Application"), "App"),
    **dict.fromkeys(("APIRouter", "Router", "Blueprint"), _MOUNT),
    **dict.fromkeys(("JSONResponse", "ORJSONResponse", "jsonify"), "return the value itself, or Response.json(value)"),
    **dict.fromkeys(("HTMLResponse", "render_template"), "Response.html(text)"),
    **dict.fromkeys(("PlainTextResponse", "make_response"), "return the text itself, or Response(text)"),
    **dict.fromkeys(("RedirectResponse", "redirect"), "Response.redirect(target)"),
    **dict.fromkeys(("FileResponse", "send_file", "send_from_directory"), "Response.file(path), or app.static"),
    "StaticFiles": "app.static('/files', 'folder')",
    "StreamingResponse": "return an iterator, or Response(iterator)",
    "EventSourceResponse": "Response.events(source)",
    "abort": "raise HTTPException(404)",
    **dict.fromkeys(("WebSocket", "WebSocketDisconnect"), _WEBSOCKET),
    **dict.fromkeys(("Depends", "Security"), "nothing of the kind; a handler calls what it needs, or a decorator does"),
    **dict.fromkeys(("Query", "Path", "Body", "Header", "Cookie", "File"), _PARAMETER),
    "UploadFile": "Upload, a value of request.form()",
    **dict.fromkeys(("BackgroundTasks", "BackgroundTask"), "request.after(function, ...)"),
    **dict.fromkeys(("request", "current_app"), "the handler's parameter: def handler(request: Request)"),
    **dict.fromkeys(("g", "session"), _STATE),
    **dict.fromkeys(("Middleware", "BaseHTTPMiddleware"), _WRAP),
    "TestClient": _TEST, "status": "a number, or http.HTTPStatus", "url_for": "nothing of the kind; write the path",
}  # fmt: skip


def missing_attribute(owner: Any, name: str, table: Mapping[str, str]) -> AttributeError | None:
    """The error about an attribute of another framework; None for all other names."""
    if name not in table:
        return None
    kind = type(owner).__name__
    return AttributeError(f"coserver's {kind} has no {name!r}; here: {table[name]}", name=name, obj=owner)


def missing_name(name: str, asking: FrameType) -> Exception | None:
    """The error about a name that another framework has and coserver has not; None for all other names.

    ``from coserver import name`` would replace the message of an AttributeError. Its error is an ImportError.
    """
    if name not in PACKAGE:
        return None
    import dis

    message = f"coserver has no {name!r}; here: {PACKAGE[name]}"
    if asking.f_lasti >= 0 and asking.f_code.co_code[asking.f_lasti] == dis.opmap["IMPORT_FROM"]:
        return ImportError(message, name="coserver")
    return AttributeError(message, name=name)


# Habits that end as an error of Python's, whose message names neither the cause nor the way out.

_METHODS = {"json", "form", "text"}
_VALUES = {"body", "headers", "query", "cookies", "params", "method", "path", "host", "client", "content", "app"}
_awaited = re.compile(r"'await' expression|object can't be awaited").search
_called = re.compile(r"object is not callable").search
_not_called = re.compile(r"'(?:method|function)' object (?:is not subscriptable|has no attribute)").search
_of_client = re.compile(r"'str' object has no attribute '(?:host|port)'").search
_of_response = re.compile(r"Response\.__init__\(\) got an unexpected keyword argument '(\w+)'").search
_RESPONSE = {"status_code": "status", "code": "status", "content": "body", "media_type": "content_type",
             "mimetype": "content_type", "response": "body", "text": "body"}  # fmt: skip


def explain(error: BaseException) -> None:
    """Add a note to a handler's TypeError or AttributeError that comes from such a habit. Never raises."""
    if getattr(error, "__notes__", None) or (note := _note(error)) is None:
        return
    error.add_note(note)


def _note(error: BaseException) -> str | None:
    message = str(error)
    if found := _of_response(message):
        meant = _RESPONSE.get(found[1])
        words = f"did you mean {meant!r}?" if meant else "it has body, status, headers, content_type and trailers"
        return f"Response has no option {found[1]!r}; {words}"
    used = _attributes_used(error)
    if _awaited(message) and (names := used & (_METHODS | _VALUES)):
        return f"request.{_first(names, _METHODS)} is no coroutine: the body has been read already. Leave out the await"
    if _called(message) and (names := used & _VALUES):
        return f"request.{_first(names)} is a value, not a method: leave out the parentheses"
    if _not_called(message) and (names := used & _METHODS):
        return f"request.{_first(names)} is a method: write request.{_first(names)}()"
    if _of_client(message) and "client" in used:
        return "request.client is the client's address as text; request.peer has the port too"
    return None


def _first(names: set[str], methods: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    name = min(names)
    return f"{name}()" if name in methods else name


def _attributes_used(error: BaseException) -> set[str]:
    """The attributes on the line that raised; those of its whole function if the source is not there."""
    at = error.__traceback__
    if at is None:
        return set()
    while at.tb_next is not None:
        at = at.tb_next
    code = at.tb_frame.f_code
    line = linecache.getline(code.co_filename, at.tb_lineno, at.tb_frame.f_globals)
    return set(re.findall(r"\.\s*(\w+)", line)) if line else set(code.co_names)
