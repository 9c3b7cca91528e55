"""Layer 9: App and the running Server, composed of everything below.

| file | what it holds |
|---|---|
| app | ``App``: routes, TCP handlers, mounts, upstreams; start, serve, run; ``host`` for any other application |
| server | ``Server``: a running app, its pictures, traces, steppers, and its end |
| routes | the routes, TCP handlers and mounts of an app, and the router made of them |
| lifespan | ``@app.lifespan`` |
| static | a folder served below a prefix |
| metrics | the handler of ``/metrics`` |
| address | ``Address``: the URL of a listener |
| listeners | plan the listeners of an app |
| sockets | listening sockets: to be bound, bound, inherited |
| registry | the servers of this process by name |
| runner | run an app in the caller's loop, in a thread, in the foreground |
| signals | SIGINT, SIGTERM, SIGHUP |
| standstill | notice that a loop stands still |
| config/ | settings: fields, files, environment variables, flags |
| inspect/ | traces, failures and snapshots of a running server |
| process/ | a server in a process of its own |
"""
