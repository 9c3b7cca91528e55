"""One accepted connection, whatever it speaks.

| file | what it holds |
|---|---|
| base | ``Connection``: its life, its ends, its writes; base of the HTTP and the TCP connection |
| pace | the patience with a client that does not read |
| proxy_protocol | the PROXY header, by which a trusted proxy names its client |
| tls_handshake | the TLS handshake, and what is said of one that fails |
"""
