"""HTTP: the exchange, and the protocols that carry it.

| file | what it holds |
|---|---|
| exchange | ``HttpExchange``: route, read the body, run the handler, respond |
| http1 | ``HttpConnection``: reads heads, carries one exchange after the other (HTTP/1.0 and 1.1) |
| carrier | ``Carrier``: reads and writes for an exchange |
| alpn | the protocols of an HTTP listener, by their names in ALPN |
| request_body | read a whole body before the handler runs: into memory, or to disk |
| response_head | encode a response's head for HTTP/1 |
| send_stream | send the pieces of an iterator |
| send_events | send server-sent events, with heartbeats |
| send_file | send a file: conditions, ranges, sendfile |
| edit | change a held exchange, or answer it |
| access_log | the access log |
| head_log | the log of heads, for debugging |
"""
