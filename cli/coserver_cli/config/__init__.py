"""``coserver config``.

| file | what it holds |
|---|---|
| check | ``config check`` and ``config show`` |
| reference | ``config reference``: all options as Markdown |
"""
