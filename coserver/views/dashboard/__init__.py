"""The screen of ``coserver top``.

| file | what it holds |
|---|---|
| model | what the dashboard knows, and what a key does to it |
| keys | one row for each key |
| screen | the lines for a screen of any size |
| session | ask the server, in threads |
| run | the loop in a terminal |
| terminal | the terminal: raw input, changed cells only |
| prompt | one line that a person types |
| editor | a held message in the editor |
| rates | figures a second, and their sparklines |
| glyphs | replace characters that a terminal lacks |
"""

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # a type checker shall not take every name for known

    def __getattr__(name: str) -> Any:
        from ...deprecated import old_name

        return old_name(__name__, name)
