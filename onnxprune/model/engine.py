"""The onnxruntime that is installed here: which one, and whether it is whole.

Its builds have different names and share one folder: a second one overwrites the first, and takes
files of both along when it is removed. Everything here imports onnxruntime through this module.
"""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

from ..errors import InstallationError

BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn")

BY_ITSELF = {"onnxruntime", "onnxruntime-gpu"}
"""Those that packages require: others are there because somebody chose them."""


def builds() -> dict[str, str]:
    """Version of every build that is installed."""
    found = {}
    for name in BUILDS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def doubled() -> str:
    """What to know where several builds are installed; empty elsewhere."""
    names = list(builds())
    if len(names) < 2:
        return ""
    both = " and ".join(names)
    return f"{both} are installed together: Python imports whichever was installed last ({mend(names)})"


def mend(names: list[str]) -> str:
    """Commands that leave one whole build: of several the one that did not come by itself."""
    wanted = "onnxruntime"
    if sys.platform in ("linux", "win32") and platform.machine() in ("x86_64", "AMD64"):
        wanted = "onnxruntime-gpu"
    wanted = next((name for name in names if name not in BY_ITSELF), wanted)
    if len(names) == 1:
        return f"pip install --force-reinstall --no-deps {names[0]}"
    install = f"pip install {wanted}"
    return f"pip uninstall --yes {' '.join(names)} && {install}" if names else install


def load() -> Any:
    """Import onnxruntime.

    Raises
    ------
    InstallationError
        If there is none, or only parts of one, with what mends it.
    """
    problem = ""
    try:
        import onnxruntime
    except Exception as error:  # half of a package fails in any way
        problem = " ".join(str(error).split()) or type(error).__name__
    else:
        if hasattr(onnxruntime, "InferenceSession"):
            return onnxruntime
        problem = "files of it are missing"
    names = list(builds())
    if not names:
        raise InstallationError("onnxruntime is not installed", f"{mend(names)}.")
    which = " and ".join(names)
    are = "is" if len(names) == 1 else "are"
    raise InstallationError(f"{which} {are} installed but cannot be imported: {problem}", f"{mend(names)}.")


ort = load()
InferenceSession = ort.InferenceSession
