"""One accepted connection, of any protocol.

| file | what it holds |
|---|---|
| base | ``Connection``: its life, its ends, its writes; base of the HTTP and the TCP connection |
| pace | ``Pace``: the patience with a client that reads slowly or not at all |
| proxy_protocol | the PROXY header, by which a trusted proxy names its client |
| tls_handshake | the TLS handshake, and the log lines of a failed one |
"""
