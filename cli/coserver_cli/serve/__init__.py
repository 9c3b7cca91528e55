"""``coserver serve`` and ``coserver dev``.

serve.py         from a command line to a running server: read sources, load the app, run it, report failures
dev.py           ``coserver dev``: serve with reload and debug pages
discover.py      find an app in a folder's source, without importing it
target.py        import ``module:app``; errors with the way out
live.py          ``--live``: the dashboard in the server's own terminal
port_holder.py   which process uses a port that is taken
systemd.py       sockets from systemd, and READY=1 to it
"""
