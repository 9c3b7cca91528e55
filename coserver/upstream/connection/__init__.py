"""One connection to a member of an upstream.

| file | what it holds |
|---|---|
| connection | ``UpstreamConnection``: connect, send, receive, ends |
| dial | connected sockets |
| tls_wire | a socket under TLS |
| request_body | sending of bodies that do not go out at once |
| readers | parsing of responses: HTTP/1.1, or a TCP framing |
"""
