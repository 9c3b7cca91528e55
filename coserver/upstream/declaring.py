"""What was declared of an upstream: who its members are, how they are asked, within which limits. Nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ..protocol.codecs import choose_codec
from ..protocol.framing import FRAMINGS, Framing
from ..protocol.http1_client import choose_response_codec
from .connection.readers import FramedReader, HttpReader
from .limits import UpstreamLimits
from .member import UpstreamMember
from .pool.balance import POLICIES, Key
from .tls import UpstreamTls

if TYPE_CHECKING:
    from ssl import SSLContext


class UpstreamOptions(TypedDict, total=False):
    """The keywords of an Upstream, beside its members."""

    policy: str
    key: Key | None
    limits: UpstreamLimits
    codec: str
    framing: str | Callable[[int], Framing] | None
    tls: SSLContext | UpstreamTls | None


class Configured(TypedDict, total=False):
    """What may be changed before it is opened. ``limits`` are fields of UpstreamLimits."""

    members: Sequence[str | UpstreamMember]
    policy: str | None
    framing: str | Callable[[int], Framing] | None
    limits: Mapping[str, Any]
    tls: UpstreamTls | None


class Declared:
    """The part of an Upstream that is the same on every loop. Raises ValueError, TypeError."""

    def __init__(
        self,
        *members: str | UpstreamMember,
        name: str = "",
        policy: str = "round-robin",
        key: Key | None = None,
        limits: UpstreamLimits | None = None,
        codec: str = "auto",
        framing: str | Callable[[int], Framing] | None = None,
        tls: SSLContext | UpstreamTls | None = None,
    ) -> None:
        if not members:
            raise ValueError("an upstream has at least one member: Upstream('http://127.0.0.1:8000')")
        self.members = [
            member if isinstance(member, UpstreamMember) else UpstreamMember.parse(member) for member in members
        ]
        if policy not in POLICIES:
            raise ValueError(f"policy is one of {', '.join(map(repr, POLICIES))}; got {policy!r}")
        self.name = name or self.members[0].authority
        self.policy = policy
        if key is not None and policy != "consistent-hash":
            raise ValueError(f"a key is for policy 'consistent-hash'; the policy is {policy!r}")
        self.key = key
        self.limits = limits or UpstreamLimits()
        self.codec = choose_codec(codec)
        self.framing = check_framing(framing, self.members)
        if self.framing is not None and self.limits.check_path:
            raise ValueError("check_path is for members that speak HTTP: a tcp member cannot be asked for a path")
        self._own_tls = tls
        self.tls = check_tls(tls, self.members)
        #: What members' certificates are for, where that is not the name in their address.
        self.server_name = tls.server_name if isinstance(tls, UpstreamTls) else None

    def configure(self, **given: Unpack[Configured]) -> None:
        """Change it: what is given takes the place of what was declared, the rest stays. Raises as it is declared."""
        policy = given.get("policy") or self.policy
        changed = Declared(
            *(given.get("members") or self.members),
            name=self.name,
            policy=policy,
            key=self.key if policy == "consistent-hash" else None,
            limits=replace(self.limits, **given.get("limits", {})),
            codec=self.codec,
            framing=given.get("framing") or self.framing,
            tls=given.get("tls") or self._own_tls,
        )
        self.restore(changed.declared())
        self.tls, self.server_name = changed.tls, changed.server_name

    def declared(self) -> tuple[Any, ...]:
        """What can be changed, as it is."""
        return self.members, self.policy, self.limits, self.framing, self._own_tls

    def restore(self, declared: tuple[Any, ...]) -> None:
        """Take back what ``configure`` changed; ``declared`` is what it returned."""
        self.members, self.policy, self.limits, self.framing, self._own_tls = declared

    def reader(self) -> Callable[[], Any]:
        """What makes a reader for each connection."""
        if self.framing is not None:
            framing, size = self.framing, self.limits.body_size
            return lambda: FramedReader(framing(size))
        make, limits = choose_response_codec(self.codec), self.limits.response
        return lambda: HttpReader(make, limits)


def check_framing(framing: Any, members: Sequence[UpstreamMember]) -> Callable[[int], Framing] | None:
    """What makes a framing for each connection; None where the members speak HTTP. Raises ValueError."""
    tcp = {member.scheme == "tcp" for member in members}
    if len(tcp) > 1:
        raise ValueError("the members of an upstream speak the same: all of them tcp, or none")
    if True not in tcp:
        if framing is not None:
            raise ValueError("a framing is for tcp members, 'tcp://127.0.0.1:9000'")
        return None
    if framing is None:
        raise ValueError(f"tcp members need a framing: {', '.join(map(repr, FRAMINGS))}, or a class like them")
    if isinstance(framing, str):
        if framing not in FRAMINGS:
            raise ValueError(f"framing is one of {', '.join(map(repr, FRAMINGS))}, or a class; got {framing!r}")
        return FRAMINGS[framing]
    made: Callable[[int], Framing] = framing
    return made


def check_tls(tls: SSLContext | UpstreamTls | None, members: Sequence[UpstreamMember]) -> SSLContext | None:
    """The context for https members, None where there are none. Raises ValueError, TypeError."""
    if not any(member.scheme == "https" for member in members):
        if tls is not None:
            raise ValueError("tls is for https members, 'https://users.example'")
        return None
    if isinstance(tls, UpstreamTls):
        return tls.load()
    import ssl  # 10 ms, for those who need it

    if tls is None:
        return ssl.create_default_context()
    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an UpstreamTls or an ssl.SSLContext; got {tls!r}")
    return tls
