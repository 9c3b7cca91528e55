"""Layer 6: applications of other frameworks, ASGI and WSGI, served unmodified.

| file | what it holds |
|---|---|
| application | a hosted application and its options |
| kind | which kind an application is |
| endpoint | the endpoint that takes every request below a prefix |
| names | the handler and the route as the framework knows them |
| answer | the answer that an application gives piece by piece |
| asgi | a run of an ASGI application |
| wsgi | a run of a WSGI application, in a worker |
| threadpool | ``def`` endpoints of Starlette and FastAPI, in workers |
| lifespan | startup and shutdown of an ASGI application |
"""
