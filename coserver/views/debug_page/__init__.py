"""The answer to a request whose handler raised, under ``debug``.

| file | what it holds |
|---|---|
| page | the page, as HTML and as text |
| traceback | the exception as data: frames, source, variables, causes |
| masks | secrets are masked, long values are cut |
"""
