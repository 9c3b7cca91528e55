"""Commands for HAR files: of ``coserver trace --har``, of a browser, of a proxy.

| file | what it holds |
|---|---|
| har_file | ``coserver open``: read a file, and print its requests |
| comparison | ``coserver replay``: send the requests of a file to a server, and compare the answers |
"""
