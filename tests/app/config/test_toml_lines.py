"""On which line of a TOML text a key stands, and where one that is none goes wrong."""

from __future__ import annotations

import re

import pytest

from coserver.app.config.toml_lines import Document, TomlError

TEXT = """\
# a comment

app = "shop:app"   # line 3
[limits]
head_size = [
  1,

  2
]
body_size = '''
[log]
'''
"spaced key" = 1

[log]
level = "info"
[[listener]]
port = 1
limits.grace = 3
[[listener]]
limits = { grace = 4,
}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("app",), 3),
        (("limits",), 4),
        (("limits", "head_size"), 5),
        (("limits", "body_size"), 10),
        (("limits", "spaced key"), 13),
        (("log",), 15),
        (("log", "level"), 16),
        (("listener",), 17),
        (("listener", 0, "port"), 18),
        (("listener", 0, "limits", "grace"), 19),
        (("listener", 1), 20),
        (("listener", 1, "limits"), 21),
    ],
)
def test_on_which_line_a_key_stands(path: tuple[str | int, ...], line: int) -> None:
    assert Document(TEXT.replace("4,\n}", "4 }")).line(path) == line


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\nb = \nc = 2", 2, "Invalid value (column 5)"),
        ("a = 1\na = 2", 2, "Cannot overwrite a value"),
        ("a = 1\n\nb = '''\nnever closed\n\n", 3, "Expected"),
        ("a = 1\nx = " + "[" * 100_000, 2, "its values are nested too deeply"),
        ("a = 1\nb = 2\nport = " + "9" * 5000, 3, "Exceeds the limit"),
        ("=", 1, "Invalid"),
        ("[a", 1, "Expected"),
    ],
)
def test_what_is_no_toml(text: str, line: int, message: str) -> None:
    with pytest.raises(TomlError, match=re.escape(message)) as caught:
        Document(text)
    assert caught.value.line == line
