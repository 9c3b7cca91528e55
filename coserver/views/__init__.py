"""Layer 7: all that a person sees. Only this layer and ``notebook`` know a screen.

A view is a file with ``render`` and a demo: ``python -m coserver.views.waterfall`` prints it with example data.

| file | what it holds |
|---|---|
| columns | rows of a snapshot in columns |
| live | tables of exchanges, connections, upstreams and traces; the table VIEWS |
| exchange | one finished exchange in full |
| underway | one exchange that still runs, or one connection, in full |
| held | one held exchange in full |
| waterfall | a trace as a waterfall in the terminal |
| traces | traces as a table, or a line each |
| html | tables as static HTML and as text, for notebooks |
| text | text that is safe to print |
| samples | example traces |
| dashboard/ | ``coserver top`` |
| shell/ | ``coserver step`` and ``coserver trace`` |
| svg/ | drawings |
| debug_page/ | the page of a handler's exception |
"""
