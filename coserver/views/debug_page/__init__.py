"""The answers under ``debug``: to a request whose handler raised, and to one without a route.

| file | what it holds |
|---|---|
| page | the page, as HTML and as text |
| no_route | the page about a request without a route: the nearest one, and all |
| traceback | the exception as data: frames, source, variables, causes |
| masks | secrets are masked, long values are cut |
"""
