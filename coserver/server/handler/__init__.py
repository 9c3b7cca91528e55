"""What a handler gets, and what it may return or raise.

| file | what it holds |
|---|---|
| request | ``Request``, and its body as a stream |
| params | fields, query and cookies by name; a missing or wrong one is a 400 |
| forms | ``Form``: the fields and files of a form |
| multipart | find the parts of a multipart body as it comes in |
| uploads | ``Upload``: a file of a form; the spool of a long body |
| response | ``Response``, and how a handler's value becomes one |
| bodies | bodies that are no bytes: a file, server-sent events |
| errors | ``HTTPException``, ``SetupError``, ``ClientLeft`` |
| error_handlers | the app's own answers to errors |
| endpoint | a handler made ready to be called |
| gateway | forward a request, and return an upstream's answer |
| trusted_proxies | who the client is, as trusted proxies tell it |
"""
