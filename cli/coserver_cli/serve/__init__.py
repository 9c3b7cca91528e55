"""``coserver serve`` and ``coserver dev``.

| file | what it holds |
|---|---|
| serve | from a command line to a running server: read sources, load the app, run it, report failures |
| dev | ``coserver dev``: serve with reload and debug pages |
| discover | find an app in a folder's source, without importing it |
| target | import ``module:app``; errors with the way out |
| other_servers | the flags of uvicorn, gunicorn and hypercorn |
| live | ``--live``: the dashboard in the server's own terminal |
| port_holder | which process uses a port that is taken |
| systemd | sockets from systemd, and READY=1 to it |
"""
