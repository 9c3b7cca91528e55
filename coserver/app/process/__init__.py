"""A server in a process of its own, ``app.start(isolated=True)``; loaded at its first use.

| file | what it holds |
|---|---|
| isolation | ``IsolatedServer``: starts the process, and stops it |
| child | the main program of the process |
| pickler | pickle an app, and name the object that cannot be pickled |
| remote | traces and steppers of the process, over its control socket |
"""
