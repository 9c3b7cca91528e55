"""The families of shims, each a file by its name on the command line, loaded when the family is installed.

- ``sleep``: ``time.sleep``
- ``sockets``: ``socket.socket``
- ``tls``: ``ssl.SSLSocket``, and reading certificates
- ``dns``: the look-ups of names in ``socket``
- ``select``: ``select``, ``poll``, ``epoll``, and with them ``selectors``
- ``pipes``: ``os.read``, ``os.write`` and files on pipes and terminals
- ``buffers``: buffered files and text files on pipes and sockets, which several workers use
- ``processes``: waits for child processes
- ``filelocks``: ``fcntl.flock``, ``fcntl.lockf``
- ``semaphores``: the locks of multiprocessing
- ``drivers``: libraries that need only be told: psycopg 3, Django
- ``loops``: ``asyncio.run`` and similar functions
- ``detection``: ``asyncio.get_running_loop``, ``sniffio`` and the like, which see no loop
- ``locals``: ``threading.local``
- ``idents``: ``threading.get_ident``, ``threading.current_thread``

The family "locks" has a folder of its own, ``coserver.hooks.locks``.
"""
