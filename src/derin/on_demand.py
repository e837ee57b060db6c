"""Names that a package imports when they are first asked for (PEP 562): nobody waits for layers that nobody uses.

And packages that are functions too: `derin.tune` is a folder of modules, and what people call."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any


def on_demand(package: str, homes: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose modules hold these names, by module, blanks between them.

    A package writes them under `else` of its `if TYPE_CHECKING:`, where the same names are imported for editors and
    for mypy, which would take any name at all if it saw a `__getattr__`.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    namespace = vars(sys.modules[package])

    def __getattr__(name: str) -> Any:
        if name in homes:
            return importlib.import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*namespace, *home, *homes})

    return __getattr__, __dir__


class _Package(types.ModuleType):
    """A package that is called."""

    _called: str  # module:function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, _, function = self._called.partition(":")
        return getattr(importlib.import_module(module), function)(*args, **kwargs)


def callable_package(package: str, called: str) -> None:
    """Make calling the package call this function of it, "package.module:function"."""
    module = sys.modules[package]
    module.__class__ = _Package
    vars(module)["_called"] = called
