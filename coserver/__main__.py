"""``python -m coserver``: the command ``coserver``."""

import importlib

if __name__ == "__main__":
    importlib.import_module("coserver_cli").main()  # not an import statement: the library does not know the command
