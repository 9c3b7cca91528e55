"""Layer 5: connections and their exchanges, from accept to close. One ``Service`` for each listener.

| file | what it holds |
|---|---|
| service | ``Service``: what the connections of one listener share, and its drain |
| capacity | places for connections; clients wait in the backlog while there is none |
| breaches | ``Breaches``: counts and log lines of clients that broke a limit or a rule |
| limits | ``Limits``: sizes, rates, timeouts, each with unit, default and reason |
| router | find the handler of a method and a path |
| hold | ``Holdable``, base of connections and exchanges: phase, deadline, holds |
| exchange | ``Exchange``, base of HTTP and TCP exchanges: one request, or one message |
| tcp | ``TcpConnection``, ``TcpExchange``: receive a message, run the handler, send |
| connection/ | one accepted connection: its life, TLS handshake, PROXY header |
| http/ | the HTTP exchange, and the HTTP/1 connection that carries it |
| handler/ | what a handler gets, and what it may return or raise |
"""
