"""``coserver doctor``.

doctor.py     what is installed, what is missing, what installs it
notebook.py   findings about notebooks
hooks.py      blocking calls of an app that the hooks do not reach
"""
