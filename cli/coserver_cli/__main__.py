"""``python -m coserver_cli``, for where no script can be installed."""

from . import main

main()
