"""``coserver config``.

check.py       ``config check`` and ``config show``
reference.py   ``config reference``: all options as Markdown
"""
