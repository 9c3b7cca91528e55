"""Traces: exchanges that are over, step by step.

| file | what it holds |
|---|---|
| trace | ``Trace``: one exchange with its messages and spans |
| recorder | keep exchanges when they are over, within a number and an amount of bytes |
| spans | what the recorder notes of each event, and the spans that the notes become |
| record | one kept exchange becomes a trace |
| underway | an exchange under way as a trace |
| waterfall | the rows of a waterfall, for any screen |
"""

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # a type checker shall not take every name for known

    def __getattr__(name: str) -> Any:
        from ...deprecated import old_name

        return old_name(__name__, name)
