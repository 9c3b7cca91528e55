"""``--reload``: restart the app after each change of a file, without a refused connection.

supervisor.py   the parent: watches files, starts children, keeps the listening sockets
child.py        the serving process: takes the sockets, reports to its parent
standin.py      answers 503 while no child can serve
watch.py        which files count, and the thread that watches them
"""
