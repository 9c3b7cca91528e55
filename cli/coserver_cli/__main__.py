"""``python -m coserver_cli``: the command, where no script can be installed."""

from . import main

main()
