"""A frozen picture of one server.

| file | what it holds |
|---|---|
| snapshot | ``Snapshot``: the rows, the counters, as JSON and back |
| rows | one class for each kind of row: listener, connection, exchange, subrequest, upstream, member |
| capture | take a snapshot of a live server |
| json_rows | rows as JSON text and back |
"""

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:  # a type checker shall not take every name for known

    def __getattr__(name: str) -> Any:
        from ...deprecated import old_name

        return old_name(__name__, name)
