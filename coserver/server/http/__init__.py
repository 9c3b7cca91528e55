"""HTTP: the story of an exchange, and the protocol that carries it.

| file | what it holds |
|---|---|
| exchange | ``HttpExchange``: route, read the body, run the handler, respond |
| http1 | ``HttpConnection``: reads heads, carries one exchange after the other (HTTP/1.0 and 1.1) |
| carrier | ``Carrier``: what an exchange needs of the protocol that carries it |
| alpn | the protocols of an HTTP listener, by their names in ALPN |
| request_body | read a body whole before its handler: into memory, or to disk |
| response_head | a response's head as the bytes of HTTP/1 |
| send_stream | send what an iterator yields |
| send_events | send server-sent events, with heartbeats |
| send_file | send a file: conditions, ranges, sendfile |
| edit | change a held exchange, or answer it |
| access_log | the access log |
| head_log | the log of heads, for debugging |
"""
