"""Extends griffe, which reads the source for the reference: prefer an exported function to a module of the same name.

``coserver.hooks.install`` is a function at run time; griffe alone takes it for the module.
"""

from __future__ import annotations

from typing import Any

from griffe import Alias, Extension, Module


class FunctionsFirst(Extension):
    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """After a package and its modules have been read."""
        for package in _packages(pkg):
            for name in map(str, package.exports or ()):
                module = package.members.get(name)
                if isinstance(module, Module) and name in module.members:
                    package.members[name] = Alias(name, module.members[name], parent=package)


def _packages(package: Module) -> list[Module]:
    below = [one for one in package.members.values() if isinstance(one, Module) and one.is_init_module]
    return [package, *(deeper for one in below for deeper in _packages(one))]
