"""Layer 2: sockets on anyio.

| file | what it holds |
|---|---|
| loop | ``Loop``: what all servers and clients of one event loop share |
| deadlines | the sweeper: one task for every deadline |
| poller | one epoll set for descriptors without a task of their own |
| listener | listening sockets: binding, accepting |
| unix_socket | listening UNIX sockets, and their files |
| stream | a connected socket as an anyio ByteStream |
| tls | the same under TLS |
| tls_engine | TLS without I/O |
| tls_info | what a handshake agreed on, and the peer's certificate |
| certificates | a listener's certificates: loading, choice by name, renewal |
| cancellation | tasks that swallow every cancellation are parked |
"""
