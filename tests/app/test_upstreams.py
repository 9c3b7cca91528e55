"""Upstreams of a configuration: what it says takes the place of what the app's code says, and the rest stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from coserver import App, Limits, SetupError, UpstreamLimits, UpstreamMember
from coserver.app.config.file import ConfigError
from coserver.app.config.resolve import Configuration, resolve
from coserver.app.config.settings import UpstreamSettings
from coserver.app.runner import configure_upstreams


def configured(tmp_path: Path, text: str) -> Configuration:
    path = tmp_path / "c.toml"
    path.write_text(text)
    return resolve(flags={}, environ={}, config=path)


def upstreams(tmp_path: Path, text: str) -> Any:
    return configured(tmp_path, text).options(Limits(), lambda kind, given: pytest.fail(f"{kind}"))["upstreams"]


TEXT = """
[upstreams.users]
members = ["http://10.0.0.1:8080 weight=2", "http://10.0.0.2:8080"]
accept_bare_lf = true
max_connections = 50
total_timeout = "10s"
body_size = "1 MiB"

[upstreams.cache]
members = ["tcp://10.0.0.3:9000"]
framing = "lines"
"""


def test_a_table_is_an_upstream(tmp_path: Path) -> None:
    users, cache = upstreams(tmp_path, TEXT)
    assert users.limits == {"max_connections": 50, "total_timeout": 10.0, "body_size": 1 << 20}
    app, part = App(), App()
    app.mount("/part", part)
    declared = part.upstream("users", "http://127.0.0.1:1", limits=UpstreamLimits(idle_timeout=7))
    configure_upstreams(app, (users, cache))
    assert part.upstreams["users"] is declared
    assert declared.members == [UpstreamMember("http://10.0.0.1:8080", 2), UpstreamMember("http://10.0.0.2:8080")]
    assert (declared.limits.max_connections, declared.limits.idle_timeout) == (50, 7)
    assert app.upstreams["cache"].framing is not None
    assert (declared.accept_bare_lf, app.upstreams["cache"].accept_bare_lf) == (True, False)
    configure_upstreams(app, (users, cache))  # again, as an app that is started again is


@pytest.mark.parametrize(
    ("text", "place", "match"),
    [
        ("[upstreams.users]\nmembers = []\n", 1, "at least one member"),
        ("[upstreams.users]\nmembers = ['ftp://a']\n", 1, "scheme"),
        ("[upstreams.users]\nmembers = ['http://a width=2']\n", 1, "weight=2"),
        ("[upstreams.users]\nmember = 'http://a'\n", 2, "did you mean members"),
        ("[upstreams.users]\naccept_bare_lf = 'yes'\n", 2, "true or false"),
        ("[upstreams.users]\npolicy = 'best'\n", 2, "policy may be"),
        ("[upstreams.users]\nmax_connections = 0\n", 2, "at least 1"),
        ("[upstreams.users]\ntls = true\n", 2, r"write \[upstreams\.users\.tls\] above its keys"),
        ("[upstreams.users.tls]\nca_cert = 'a'\n", 2, r"no key of \[upstreams\.users\.tls\]; did you mean ca_certs"),
        ("[upstreams.users.tls]\nmin_version = '1.1'\n", 2, "min_version may be"),
        ("[upstreams.users.tls]\nkeyfile = 'a.key'\n", 1, "give certfile too"),
        ("[upstreams.users.tls]\nverify = false\nca_certs = 'a.pem'\n", 1, "verify = false trusts everybody"),
        ("[upstreams.users]\nmembers = ['http://a']\ntls.verify = false\n", 1, "for https members"),
        ("[upstreams]\nusers = 'http://a'\n", 1, r"\[upstreams\.NAME\]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, place: int, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as raised:
        configured(tmp_path, text)
    assert f"c.toml:{place}: " in str(raised.value)


def test_tls_of_an_upstream(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    text = "[upstreams.bank]\nmembers = ['https://10.0.0.1:8443']\ntls.server_name = 'bank'\n"
    settings = upstreams(tmp_path, f"{text}tls.ca_certs = '{tmp_path / 'ca.pem'}'\n")
    app, known = App(), App()
    configure_upstreams(app, settings)
    configure_upstreams(app, settings)  # again, as an app that is started again is
    known.upstream("bank", "https://bank.test")
    configure_upstreams(known, settings)
    for bank in (app.upstreams["bank"], known.upstreams["bank"]):
        assert bank.server_name == "bank"
        assert bank.tls is not None
        assert len(bank.tls.get_ca_certs()) == 1
    with pytest.raises(SetupError, match="'bank': no authorities can be read from gone"):
        configure_upstreams(app, upstreams(tmp_path, f"{text}tls.ca_certs = 'gone.pem'\n"))


def test_one_without_members_must_be_the_apps(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no members, and the app declares none of that name"):
        configure_upstreams(App(), upstreams(tmp_path, "[upstreams.users]\nmax_connections = 5\n"))


async def test_it_is_open_while_the_app_runs(tmp_path: Path) -> None:
    app = App()
    settings = UpstreamSettings(name="users", members=["http://127.0.0.1:9"])
    async with app.serving(upstreams=[settings]) as server:
        assert "open on 1 loops" in repr(app.upstreams["users"])
        assert server.running
        with pytest.raises(SetupError, match="only before its app starts"):
            configure_upstreams(app, [UpstreamSettings(name="users", limits={"depth": 3})])
    assert "not open" in repr(app.upstreams["users"])
