"""Layer 0: bytes to messages and back. No clock, no I/O, no async, no threads.

| file | what it holds |
|---|---|
| http1 | receive HTTP/1.1 requests: bytes in, one request at a time out |
| http1_client | receive HTTP/1.1 responses: the client's side |
| requests, responses | send: a request's head, a response's head, chunks, trailers |
| syntax | the strict grammar of a request head, checked before any parser |
| chunks | chunked framing, checked before any parser |
| head, response_head | what the fields mean for the connection: where the body ends, keep-alive |
| codec, response_codec | the interface of a codec |
| codecs | the tables of codecs: h11, httptools |
| h11_codec, h11_responses | the reference codec |
| httptools_codec, httptools_responses | the fast codec |
| framing | messages in a TCP byte stream, and the table FRAMINGS |
| proxy_header | the PROXY protocol |
| fields | ``Headers`` |
| values | names with values: a query, a form |
| cookies | Cookie and Set-Cookie |
| forwarded_field | the Forwarded field |
| dates | HTTP dates |
| conditions | conditional requests: entity tags and dates |
| ranges | range requests |
| sse | server-sent events |
| jsons | JSON, by orjson or json |
| edits | edits of held messages: checks and merging |
| x509 | the names and the expiry of a certificate |
| errors | ``RemoteProtocolError``, ``LocalProtocolError`` |
"""
