"""Floor 2: worker greenlets, in which blocking code suspends only itself."""

from .install import install, installed, uninstall
from .offload import OffloadFull, offload
from .offload_drivers import offloaded
from .watchdog import watching

__all__ = ["OffloadFull", "install", "installed", "offload", "offloaded", "uninstall", "watching"]
