"""The handler's side: the request that it gets, and the values that it may return or raise.

| file | what it holds |
|---|---|
| request | ``Request``, and its body as a stream |
| params | ``Params``: query, cookies and form by name; a missing or wrong value is a 400 |
| forms | ``Form``: the fields and files of a form |
| multipart | find the parts of a multipart body as it comes in |
| uploads | ``Upload``: a file of a form; ``Spool``: the temporary file of a long body |
| response | ``Response``, and how a handler's value becomes one |
| bodies | response bodies that are no bytes: a file, server-sent events |
| errors | ``HTTPException``, ``SetupError``, ``ClientLeft`` |
| error_handlers | the app's own answers to errors |
| endpoint | ``Endpoint``: a handler with its route, ready to be called |
| gateway | forward a request, and return an upstream's answer |
| other_frameworks | names and habits of other frameworks, and the way here: for messages |
| trusted_proxies | ``Trust``: the client's address, scheme and host, as trusted proxies tell them |
"""
