"""Layer 3: workers, which are greenlets in which a blocking call suspends only its caller.

Public: ``install``, ``uninstall``, ``installed``, ``offload``, ``offloaded``, ``OffloadFull``, ``watching``.
``coserver.hooks.install`` and ``coserver.hooks.offload`` are the functions, though modules have the same names: import
from these by ``from coserver.hooks.install import ...``.

Running blocking code:

- ``workers``: the pool of greenlets, ``run_blocking``; ``Subject``, all that a worker needs of its connection
- ``suspension``: ``suspend``, the one way to wait; ``Sleep``, ``Wake``, ``await_``
- ``cancellation``: which calls a cancellation breaks; ``RequestCancelled``, ``Waits``
- ``descriptors``: ``wait_for`` a descriptor, and ``closing`` one
- ``offload``: functions in threads; ``offload_drivers``: whole drivers in C, by name
- ``describe``: what a suspended worker waits for, and on which line of the user's code
- ``watchdog``: logs what blocks the loop, in debug

Replacing blocking calls:

- ``install``: the table of families, ``install`` and ``uninstall``
- ``patch``: puts one function in the place of another, wherever that is bound
- ``import_hook``: tells when a module has been imported
- ``shims/``: a file for each family of calls, by its name on the command line
- ``locks/``: the family "locks"
"""

from .install import install, installed, uninstall
from .offload import OffloadFull, offload
from .offload_drivers import offloaded
from .watchdog import watching

__all__ = ["OffloadFull", "install", "installed", "offload", "offloaded", "uninstall", "watching"]
