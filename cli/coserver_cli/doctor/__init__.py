"""``coserver doctor``.

| file | what it holds |
|---|---|
| doctor | what is installed, what is missing, what installs it |
| notebook | findings about notebooks |
| hooks | blocking calls of an app that the hooks do not reach |
"""
