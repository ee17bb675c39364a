"""What registers itself when it is imported: rules and passes of ours, and what others add to them.

A plugin is Python code that registers when it is imported. It is found in three ways: by its file or its
module (``--plugin``), and by the entry points ``onnxprune.plugins`` of installed packages, each of which
names a module, or a function to call. A single function needs no registration: ``module:function``, or
``file.py:function``, stands wherever a registered name does.

A registry stands below what registers in it, and imports none of that: it asks for it here.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InstallationError, UsageError, blamed

GROUP = "onnxprune.plugins"
"""Entry points that are loaded."""

_loaded: set[str] = set()
"""Entry points that were."""


def needed(module: str, extra: str, package: str = "") -> Any:
    """A module of a package that an extra of this one installs.

    Parameters
    ----------
    package : str
        What the package is called, if not like the module.

    Raises
    ------
    InstallationError
        If it is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InstallationError(
            f"{package or module} is not installed", f"Install it with: pip install 'onnxprune[{extra}]'"
        ) from None


@cache
def load_ours(room: str) -> None:
    """Import a room of ours that registers what it holds: ``rules`` or ``passes``."""
    importlib.import_module(f"onnxprune.{room}")


def load_plugin(name: str) -> ModuleType:
    """Import a plugin: a file if the name ends with ``.py``, else a module; once each.

    Modules are looked for in the working directory, too.

    Raises
    ------
    UsageError
        If there is none, or it raises anything.
    """
    with blamed(f"plugin '{name}'"):
        return _imported(name)


def _imported(name: str) -> ModuleType:
    with _here():
        return _of_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)


def _of_file(path: Path) -> ModuleType:
    path = path.resolve()
    name = f"onnxprune_plugin_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _here() -> Iterator[None]:
    """Let modules of the working directory be found."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def is_path(name: Any) -> bool:
    """Whether a name is that of a function in a module or a file."""
    module, colon, function = str(name).rpartition(":")
    return bool(isinstance(name, str) and colon and module and function.isidentifier())


def function(name: str, kind: str) -> Callable[..., Any]:
    """The function of ``module:function`` or ``file.py:function``.

    Parameters
    ----------
    kind : str
        What a message calls it.

    Raises
    ------
    UsageError
        If there is none.
    """
    place, _, called = name.rpartition(":")
    with blamed(f"{kind} '{name}'"):
        found = getattr(_imported(place), called)
    if not callable(found):
        raise UsageError(f"{kind} '{name}': found {type(found).__name__}, expected a function")
    return found


def load_installed() -> None:
    """Load the plugins of installed packages; each once.

    Raises
    ------
    UsageError
        If one fails, with the package that it belongs to.
    """
    if "" in _loaded:
        return
    _loaded.add("")  # a plugin may ask for names while it is loaded
    for point in metadata.entry_points(group=GROUP):
        if point.name in _loaded:
            continue
        _loaded.add(point.name)
        package = point.dist.name if point.dist is not None else "an unknown package"
        with blamed(f"plugin '{point.name}' of {package}"):
            found = point.load()
            if not isinstance(found, ModuleType):
                found()
