"""Floor 5: connections and their exchanges, from accept to close. One ``Service`` for each listener.

| file | what it holds |
|---|---|
| service | ``Service``: what the connections of one listener share, and its drain |
| capacity | places for connections; clients wait in the backlog while there is none |
| breaches | what clients did that they must not: counts and log lines |
| limits | ``Limits``: sizes, rates, timeouts, each with unit, default and reason |
| router | find the handler of a method and a path |
| hold | what a connection and an exchange have in common: phase, deadline, holds |
| exchange | ``Exchange``: what a request and a TCP message have in common while they are served |
| tcp | ``TcpConnection``, ``TcpExchange``: the story of a TCP connection |
| connection/ | one accepted connection: its life, TLS handshake, PROXY header |
| http/ | the story of an HTTP exchange, and the HTTP/1 connection that carries it |
| handler/ | what a handler gets, and what it may return or raise |
"""
