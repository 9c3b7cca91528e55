"""Strategies: sound requests with what a reader should tell of them, and ways to spoil bytes."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from .reading import VECTORS, Message

TCHAR = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MEANINGFUL = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}

tokens = st.text(TCHAR, min_size=1, max_size=12)
field_names = tokens.filter(lambda name: name.lower() not in MEANINGFUL)
# Visible ASCII and the upper half, blanks within.
field_values = st.text([chr(c) for c in (*range(0x20, 0x7F), 9, *range(0x80, 0x100))], max_size=20).map(
    lambda v: v.strip(" \t")
)
fields = st.tuples(field_names, st.sampled_from(["", " ", "\t ", "  "]), field_values, st.sampled_from(["", " ", "\t"]))
methods = st.sampled_from(
    ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PLAY", "PRI", "get", "M-SEARCH"]
) | tokens.filter(lambda method: method != "CONNECT")
targets = st.one_of(
    st.sampled_from(["/", "/a?b=c", "//x", "/%41", "http://h/p?q", "HTTPS://[::1]:8", "/a?b?c", '/"<>\\^`{|}']),
    st.text([chr(c) for c in range(0x21, 0x7F) if c != 0x23], max_size=20).map("/".__add__),
)
hosts = st.sampled_from(["t.example", "", "h:80", "[::1]:80", "1.2.3.4", "h:", "%41"])
bodies = st.binary(max_size=40) | st.sampled_from(
    [b"GET /SMUGGLED HTTP/1.1\r\nHost: t\r\n\r\n", b"0\r\n\r\n", b"\r\n", b"\n"]
)
QUOTABLE = "\t !#$%&'()*+,-./0129:;<=>?@AZ[]^_`az{|}~\x80\xff"
quoted = st.text(QUOTABLE, max_size=6).map(lambda text: f'"{text}"') | st.sampled_from(
    ['"\\""', '"a\\\\"', '""', '"\\\t\\\xff"']
)
blanks = st.sampled_from(["", "", "", " ", "\t", " \t "])
extensions = st.lists(
    st.tuples(blanks, blanks, tokens, st.none() | st.tuples(blanks, blanks, tokens | quoted)), max_size=2
)


@dataclass
class Sound:
    """Bytes, and what must be read from them."""

    raw: bytes
    message: Message


def _line(field: tuple[str, str, str, str]) -> str:
    name, before, value, after = field
    return f"{name}:{before}{value}{after}\r\n"


def _pair(field: tuple[str, str, str, str]) -> tuple[bytes, bytes]:
    return field[0].lower().encode(), field[2].encode("latin-1")


def _extend(pairs: list[tuple[str, str, str, tuple[str, str, str] | None]]) -> str:
    text = ""
    for before, after, name, value in pairs:
        text += f"{before};{after}{name}"
        if value is not None:
            text += f"{value[0]}={value[1]}{value[2]}"
    return text


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """The wire's bytes, the data in them, the trailers."""
    wire, data = b"", b""
    for chunk in draw(st.lists(bodies.filter(bool), max_size=3)):
        size = draw(st.sampled_from(["%x", "%X", "0%x", "%016x"])) % len(chunk)
        wire += f"{size}{_extend(draw(extensions))}\r\n".encode("latin-1") + chunk + b"\r\n"
        data += chunk
    trailers = draw(st.lists(fields, max_size=2))
    end = draw(st.sampled_from(["0", "000"])) + _extend(draw(extensions))
    wire += f"{end}\r\n{''.join(map(_line, trailers))}\r\n".encode("latin-1")
    return wire, data, [_pair(trailer) for trailer in trailers]


@st.composite
def requests(draw: st.DrawFn) -> Sound:
    method, target, minor = draw(methods), draw(targets), draw(st.sampled_from([1, 1, 1, 0]))
    lines = draw(st.lists(fields, max_size=4))
    if minor or draw(st.booleans()):
        lines.append(("Host", " ", draw(hosts), ""))
    wire = data = b""
    trailers: list[tuple[bytes, bytes]] = []
    framing = draw(st.sampled_from(["none", "length", "chunked"] if minor else ["none", "length"]))
    if framing == "length":
        wire = data = draw(bodies)
        lines.append(("Content-Length", " ", str(len(data)), ""))
    elif framing == "chunked":
        wire, data, trailers = draw(chunked_bodies())
        lines.append(("Transfer-Encoding", " ", draw(st.sampled_from(["chunked", "Chunked"])), ""))
    for name, values in (
        ("Connection", ["keep-alive", "Upgrade", "close"]),
        ("Upgrade", ["h2c"]),
        ("Expect", ["100-continue"]),
    ):
        if draw(st.integers(0, 3)) == 0:
            lines.append((name, " ", draw(st.sampled_from(values)), ""))
    lines = draw(st.permutations(lines))
    head = f"{method} {target} HTTP/1.{minor}\r\n{''.join(map(_line, lines))}\r\n".encode("latin-1")
    lead = b"\r\n" * draw(st.sampled_from([0, 0, 0, 1, 2]))
    return Sound(lead + head + wire, Message(method, target, minor, [_pair(line) for line in lines], data, trailers))


pipelines = st.lists(requests(), min_size=1, max_size=3)
seeds = st.one_of(
    st.sampled_from([vector["raw"] for vector in VECTORS if len(vector["raw"]) < 1000]),
    pipelines.map(lambda sounds: b"".join(sound.raw for sound in sounds)),
)

# What desynchronises parsers when it stands where it should not.
SPOILERS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x0c", b"\x7f", b"\x80",
    b"\xa0", b"\xff",
    b":", b";", b",", b"=", b'"', b"\\", b"/", b"#", b"?", b"@", b"%", b"0", b"5", b"f", b"-", b"+", b"_", b"0x",
    b"1.0", b"HTTP/1.1",
    b"chunked", b"close", b"gzip, ", b"Host: t\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade\r\n", b"Upgrade: x\r\n", b"0\r\n\r\n", b"\r\n 1",
    b"GET /SMUGGLED HTTP/1.1\r\nHost: t\r\n\r\n",
]  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    raw = draw(seeds)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        kind = draw(st.sampled_from(["insert", "insert", "replace", "delete", "repeat", "move"]))
        span = draw(st.integers(1, 4))
        spoiler = draw(st.sampled_from(SPOILERS) | st.binary(min_size=1, max_size=1))
        if kind == "insert":
            raw = raw[:at] + spoiler + raw[at:]
        elif kind == "replace":
            raw = raw[:at] + spoiler + raw[at + span :]
        elif kind == "delete":
            raw = raw[:at] + raw[at + span :]
        elif kind == "repeat":
            raw = raw[:at] + raw[at : at + span * 8] + raw[at:]
        else:
            to = draw(st.integers(0, len(raw)))
            piece, rest = raw[at : at + span * 4], raw[:at] + raw[at + span * 4 :]
            raw = rest[:to] + piece + rest[to:]
    return raw


cuts = st.lists(st.integers(0, 2000), max_size=6)
