"""``coserver config reference``: all options as Markdown, from the table of options; docs/reference/options.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from coserver.app.config import values
from coserver.app.config.table import Option, listener_table, table, upstream_table, upstream_tls_table
from coserver.server.limits import ROUTE_LIMITS

from ..options import DEFAULTS

_HEAD = """\
# Options

<!-- Made by: coserver config reference. Do not edit. -->

All options and their names. An option may be set in four places; the first one that has it wins:

1. a flag of `coserver serve`,
2. an environment variable, if it is not empty,
3. a key of the file that `--config` or `COSERVER_CONFIG` names; or of `./coserver.toml`, if no app is given either,
4. for limits, the app's own `App(limits=Limits(...))`; for the port, the variable `PORT`; else the default.

A socket's path and a port exclude each other: the first place that has one of them decides. `coserver config show`
prints each value and where it comes from; `coserver config check` lists all errors of a file with their lines.
In Python the fields of `Limits` go to `App(limits=...)`. The others are keywords of `app.run()`, `app.start()`,
`app.serving()` and `app.serve()`. The options of hooks and logging belong to the command; `App(hooks=...)` takes
families of hooks.
"""

_FORMS = """\
## How values are written

| form | in a file | in a variable or a flag |
|---|---|---|
| text | `"127.0.0.1"` | `127.0.0.1` |
| whole number | `8000` | `8000` |
| size, in bytes | `65536`, `"64k"`, `"10 MiB"`, `"1.5G"` | the same unquoted; `k`, `M`, `G`, `T` are powers of 1024 |
| time, in seconds | `30`, `0.5`, `inf`, `"500ms"`, `"30s"`, `"5m"`, `"1h"` | the same unquoted; `inf`: no limit |
| switch | `true`, `false` | `1 true yes on`, `0 false no off`; a flag has no value, `--no-...` is off |
| list | `["10.0.0.1", "unix"]` | `10.0.0.1,unix`; a flag may also be given several times |
| reference | `"module:name"` | `module:name` |
"""

_OWN = """\
## The app, and the sources of options

| key | flag | variable | what |
|---|---|---|---|
| `app` | the argument `MODULE:APP` | `COSERVER_APP` | the App to serve; `module` alone means `module:app` |
| | `--config`, `-c` | `COSERVER_CONFIG` | the configuration file |
| | `--env-file` | | sets environment variables from this file, for the app too; those that are set already stay |
| | `--factory` | | the argument names a function that returns the App |
| | `--app-dir` | | the folder that is searched first for the module, instead of the current one |
| | `--reload`, `--reload-dir` | | restart the app after each change of a file |
"""

_TLS = """\
## TLS: `[tls]`

With a `certfile` all listeners of the server speak TLS. See the [guide](../guide/tls.md).
"""

_LISTENERS = """\
## Listeners: `[[listener]]`

Each table is one listener. These tables replace the listener that `port` or `uds` would make; the app's own `@app.tcp`
handlers listen as well. A `[listener.limits]` table starts from `[limits]`, a `[listener.tls]` table from `[tls]`.
`tls = false` makes a listener without TLS beside others with TLS.
"""

_UPSTREAMS = """\
## Upstreams: `[upstreams.NAME]`

Each table is one upstream. Its keys replace the arguments of the upstream of that name in the app's code; the other
arguments stay. An upstream that the code does not declare is `app.upstreams["NAME"]`. See the
[guide](../guide/upstreams.md).
"""

_UPSTREAM_TLS = """\
### `[upstreams.NAME.tls]`

How the certificates of `https://` members are checked, and the client certificate for them; in Python `UpstreamTls`.
"""

_EXAMPLE = """\
## An example

```toml
app = "shop:app"

[limits]
body_size = "10 MiB"
idle_timeout = "30s"

[log]
format = "json"

[[listener]]
port = 8000

[[listener]]
name = "admin"
uds = "admin.sock"
app = "shop:admin"

[listener.limits]
max_connections = 10

[[listener]]
protocol = "tcp"
port = 9000
handler = "shop:echo"
framing = "lines"

[upstreams.users]
members = ["http://10.0.0.1:8080 weight=2", "http://10.0.0.2:8080"]
max_connections = 50
total_timeout = "10s"
```
"""


def reference() -> str:
    """The whole page."""
    rows = list(table().values())
    parts = [
        _HEAD,
        _OWN,
        "## The server\n\nAt the top of the file, above all tables.\n\n" + _table([r for r in rows if not r.section]),
        _TLS + "\n" + _table([row for row in rows if row.section == "tls"]),
        "## Limits: `[limits]`\n\n" + _table([row for row in rows if row.section == "limits"]),
        "## Apps of other frameworks: `[hosting]`\n\n" + _table([row for row in rows if row.section == "hosting"]),
        "## Hooks: `[hooks]`\n\n" + _table([row for row in rows if row.section == "hooks"]),
        "## Logging: `[log]`\n\n" + _table([row for row in rows if row.section == "log"]),
        _LISTENERS + "\n" + "\n".join(_listener_lines(listener_table().values())) + "\n",
        _UPSTREAMS + "\n" + "\n".join(_listener_lines(upstream_table().values())) + "\n",
        _UPSTREAM_TLS + "\n" + "\n".join(_listener_lines(upstream_tls_table().values())) + "\n",
        _FORMS,
        _EXAMPLE,
    ]
    return "\n".join(parts)


def limits_table() -> str:
    """The table of docs/guide/limits.md: each limit, and whether a route may have its own."""
    lines = ["| limit | default | of a route | what |", "|---|---|---|---|"]
    for row in table().values():
        if row.section == "limits":
            own = "yes" if row.name in ROUTE_LIMITS else ""
            lines.append(f"| `{row.name}` | {_default(row)} | {own} | {_escaped(row.why)} |")
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Option]) -> str:
    head = ["| key | flag | variable | form | default | what |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *map(_line, rows)]) + "\n"


def _line(row: Option) -> str:
    flag = f"`{row.flag}`, `--no-{row.flag[2:]}`" if row.switch else f"`{row.flag}`"
    return f"| `{row.name}` | {flag} | `{row.variable}` | {_form(row)} | {_default(row)} | {_escaped(row.why)} |"


def _default(row: Option) -> str:
    default = values.written(row.default, row.unit)
    under = values.written(DEFAULTS[row.key], row.unit) if row.key in DEFAULTS else default
    return default if under == default else f"{under}; in Python {default}"


def _listener_lines(rows: Iterable[Option]) -> Iterator[str]:
    yield "| key | form | default | what |"
    yield "|---|---|---|---|"
    for row in rows:
        yield f"| `{row.name}` | {_form(row)} | {values.written(row.default, row.unit)} | {_escaped(row.why)} |"


def _form(row: Option) -> str:
    return row.kind.name if not row.of else f"{row.kind.name}: {', '.join(f'`{one}`' for one in row.of)}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
