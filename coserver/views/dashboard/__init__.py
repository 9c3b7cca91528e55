"""The dashboard of ``coserver top``.

| file | what it holds |
|---|---|
| run | the loop: draw, read keys, carry out commands |
| model | the state that the screen shows; no I/O |
| keys | what each key does; the table KEYS |
| screen | the lines of a screen |
| session | threads that talk to the server: snapshots, held exchanges, traces, commands |
| terminal | the terminal: full screen, keys, glyphs that a font lacks |
| prompt | a line that a person types |
| editor | a held exchange in the user's own editor |
| rates | figures of each second, and sparklines |
"""

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # a type checker shall not take every name for known

    def __getattr__(name: str) -> Any:
        from ...deprecated import old_name

        return old_name(__name__, name)
