"""Traces for other tools, and from them.

| file | what it holds |
|---|---|
| har | traces as a HAR 1.2, for browsers' tools |
| har_reader | ``read_har``: traces from a HAR, ours or a browser's |
| chrome | traces as a Chrome trace, for Perfetto |
| otel | traces as OpenTelemetry spans |
| replay | a trace's request sent again, or written as a line of curl |
"""
