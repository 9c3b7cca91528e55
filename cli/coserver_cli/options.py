"""Flags, made from the table of options, and the help that groups them. A new option is a new flag.

A command declares its own parameters and one named ``flags``. ``with_flags`` adds a flag for each option to its
signature. The command gets the given flags in ``flags``: a dict of read values by option key.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from coserver.app.config import values
from coserver.app.config.table import Option, table

#: Headings of the help, in this order; the command's own options come first.
LISTENING, ENGINE, LOGGING, LIMITS, DEVELOPMENT = "Listening", "Engine", "Logging", "Limits", "Development"
HOSTING = "Apps of other frameworks"
TLS, PROXIES, OBSERVING = "TLS", "Proxies in front", "Observing"
HEADINGS = (LISTENING, TLS, PROXIES, HOSTING, ENGINE, LOGGING, OBSERVING, DEVELOPMENT, LIMITS)
#: Options under another heading than the rest of their section.
_UNDER = {
    "backend": ENGINE,
    "codec": ENGINE,
    "access_log": LOGGING,
    "access_format": LOGGING,
    "trusted_peers": PROXIES,
    "forwarded_fields": PROXIES,
    "proxy_protocol": PROXIES,
    "debug": DEVELOPMENT,
    "control": OBSERVING,
    "control_port": OBSERVING,
    "control_token": OBSERVING,
    "record": OBSERVING,
    "stuck_after": OBSERVING,
}
_SECTIONS = {"": LISTENING, "tls": TLS, "limits": LIMITS, "hosting": HOSTING, "hooks": ENGINE, "log": LOGGING}
#: Other well-known names of options.
_ALIASES = {"trusted_peers": ("--forwarded-allow-ips",)}
#: Words that a shell completes for an option that also takes others.
_USUAL = {
    "access_format": ("common", "combined"),
    "trusted_peers": ("unix", "*"),
    "host": ("127.0.0.1", "0.0.0.0", "::"),
}
#: Options whose flag may be given several times, though they are one text.
_REPEATED = ("host",)
#: Options that have a flag ``--no-…``, which sets this word.
_OFF = {"control": "off"}
_METAVARS = {
    "host": "ADDRESS",
    "uds": "PATH",
    "hosting.root_path": "PATH",
    "uds_permissions": "OCTAL",
    "fd": "NUMBER",
    "tls.certfile": "FILE",
    "tls.keyfile": "FILE",
    "tls.ca_certs": "FILE",
    "tls.keyfile_password": "TEXT",
    "access_format": "FORMAT",
    "control": "PATH",
}

#: Defaults of ``coserver serve`` that differ from the library's: a person reads the log, and expects a known port.
DEFAULTS: Mapping[str, Any] = {"port": 8000, "access_log": True, "control": "auto"}


#: The same for ``coserver dev``.
DEV_DEFAULTS: Mapping[str, Any] = {**DEFAULTS, "debug": True}


def with_flags(
    command: Callable[..., Any] | None = None, *, hidden: bool = False, defaults: Mapping[str, Any] = DEFAULTS
) -> Callable[..., Any]:
    """Add a flag for each option to a command; it gets them as ``flags``, a dict by option key.

    ``hidden`` leaves the flags out of the help. ``defaults`` are shown in the help instead of the options' own.
    """
    if command is None:
        return functools.partial(with_flags, hidden=hidden, defaults=defaults)
    rows = {row.parameter: row for row in table().values()}

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        flags: dict[str, Any] = {}
        for name, row in rows.items():
            written = given.pop(name)
            if given.pop(f"no_{name}", False):
                written = _OFF[row.key]
            if written is not None and written != []:
                flags[row.key] = written if row.switch else _read(row, written)
        return command(**given, flags=flags)

    own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "flags"]
    parameters = [*own, *(_parameter(row, hidden, defaults) for row in rows.values())]
    parameters += [_off_parameter(rows[key], hidden) for key in _OFF]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _read(row: Option, written: str | list[str]) -> Any:
    """The value of a flag; ``written`` is a list if the flag may be given several times."""
    try:
        return row.text(written if isinstance(written, str) else ",".join(written))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{row.flag}'") from None


def _parameter(row: Option, hidden: bool, defaults: Mapping[str, Any]) -> inspect.Parameter:
    names = f"{row.flag}/--no-{row.flag[2:]}" if row.switch else row.flag
    option = typer.Option(
        names,
        *_ALIASES.get(row.key, ()),
        metavar=None if row.switch else _metavar(row),
        help=_help(row, defaults),
        show_default=False,
        hidden=hidden,
        rich_help_panel=_UNDER.get(row.key, _SECTIONS[row.section]),
        autocompletion=None if row.switch else complete(row.of or _USUAL.get(row.key, ())),
    )
    several = row.kind.name == "list" or row.key in _REPEATED
    plain: Any = bool | None if row.switch else list[str] | None if several else str | None
    annotation: Any = Annotated[plain, option]
    return inspect.Parameter(row.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def complete(words: tuple[str, ...]) -> Callable[[str], list[str]] | None:
    """Completion for an option that has fixed words; None without any."""
    return (lambda incomplete: [word for word in words if word.startswith(incomplete)]) if words else None


def _off_parameter(row: Option, hidden: bool) -> inspect.Parameter:
    option = typer.Option(
        f"--no-{row.flag[2:]}", help=f"The same as {row.flag} {_OFF[row.key]}.", hidden=hidden,
        rich_help_panel=_UNDER.get(row.key, _SECTIONS[row.section]),
    )  # fmt: skip
    name = f"no_{row.parameter}"
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])


def _metavar(row: Option) -> str:
    return _METAVARS.get(row.key) or row.kind.metavar


def _help(row: Option, defaults: Mapping[str, Any]) -> str:
    """The help of a flag: the option's text (a limit's up to its first semicolon), and its default."""
    text = row.why.partition(";")[0] if row.section == "limits" else row.why
    default = values.written(defaults.get(row.key, row.default), row.unit)
    return f"{text[0].upper()}{text[1:]}.{'' if default == 'none' else f' [{default}]'}"


class Sectioned(TyperCommand):
    """A command whose help groups its options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments: list[tuple[str, str]] = []
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], **{heading: [] for heading in HEADINGS}}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is None:
                continue
            if one.param_type_name == "argument":
                arguments.append((record[0].partition(" <")[0], record[1]))  # typer adds the type's name
            else:
                heading = getattr(one, "rich_help_panel", None) or "Options"
                text = record[1].partition("[0<=")[0].rstrip()  # typer adds the range; the error message has it
                groups.setdefault(heading, []).append((record[0], text))
        for heading, records in {"Arguments": arguments, **groups}.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def restore_docstrings(cli: typer.Typer) -> None:
    """Give each command its docstring, which is its help, from the source if that is there: ``python -OO`` drops it."""
    for command in cli.registered_commands:
        if command.callback is not None and not command.help:
            command.help = _docstring(inspect.unwrap(command.callback))
    for group in cli.registered_groups:
        if group.typer_instance is not None:
            restore_docstrings(group.typer_instance)


def _docstring(function: Callable[..., Any]) -> str | None:
    code = function.__code__
    return _docstrings(code.co_filename).get(code.co_name)


@functools.cache
def _docstrings(file: str) -> dict[str, str | None]:
    """The docstrings of a module's functions, by name."""
    import ast

    try:
        with open(file, encoding="utf-8") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {one.name: ast.get_docstring(one) for one in tree.body if isinstance(one, ast.FunctionDef)}
