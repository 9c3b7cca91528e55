"""Floor 5: connections and their exchanges, from accept to close. One ``Service`` for each listener.

| file | what it holds |
|---|---|
| service | ``Service``: what the connections of one listener share, and its drain |
| capacity | places for connections; clients wait in the backlog while there is none |
| breaches | what clients did that they must not: counts and log lines |
| limits | ``Limits``: sizes, rates, timeouts, each with unit, default and reason |
| router | find the handler of a method and a path |
| tcp | ``TcpConnection``: the story of a TCP connection |
| blocking_tcp | ``BlockingTcpConnection``: the same for a ``def`` handler |
| message | one TCP message and its answer |
| identity | request ids |
| stuck | what outlives the end of a drain |
| afterwork | work after the response: ``request.after`` |
| connection/ | one accepted connection: deadlines, holds, TLS handshake, PROXY header |
| http/ | the story of an HTTP connection and of its exchanges |
| handler/ | what a handler gets, and what it may return or raise |
"""
