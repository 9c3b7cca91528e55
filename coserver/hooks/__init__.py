"""Floor 2: worker greenlets, in which blocking code suspends only itself."""

from .offloading import OffloadFull, offload
from .offloads import offloaded
from .shims import install, installed, uninstall
from .watchdog import watching

__all__ = ["OffloadFull", "install", "installed", "offload", "offloaded", "uninstall", "watching"]
