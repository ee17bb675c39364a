"""The build backend: setuptools, the onnxruntime that fits, and an sdist that holds all that its tests read.

onnxruntime comes under several names that share one folder, so that a second one damages the first. A
requirement cannot say "one of these", no marker knows what is installed, and an extra can only add. What
builds the package can look: where another onnxruntime is installed already, that one is required in place
of the default. It is seen by pip, which builds with the interpreter that it installs for; uv and
``python -m build`` build elsewhere, and get the default, so that what is published always has that.
``pip install . --config-settings engine=cpu`` (or gpu, openvino, directml, none) says it outright.
"""

import re
import sysconfig
from importlib import metadata
from inspect import signature

from setuptools import Distribution, build_meta
from setuptools.build_meta import *  # noqa: F403
from setuptools.command.egg_info import manifest_maker

# setuptools looks for the list of further files beside pyproject.toml only.
manifest_maker.template = ".ci/sdist.in"

LEAST = "1.28"
"""Lowest version that is declared, and tested by tox."""

BEHIND = {"onnxruntime-openvino": "1.24.1", "onnxruntime-directml": "1.23"}
"""Builds that are published later, or no more: what they lack or do wrong is in the manual."""

HAS_GPU = (
    "(sys_platform == 'linux' or sys_platform == 'win32')"
    " and (platform_machine == 'x86_64' or platform_machine == 'AMD64')"
)
NO_GPU = (
    "(sys_platform != 'linux' and sys_platform != 'win32')"
    " or (platform_machine != 'x86_64' and platform_machine != 'AMD64')"
)

BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn")

# The GPU build runs on machines without a GPU, too, but has no wheels elsewhere.
DEFAULT = [f"onnxruntime-gpu>={LEAST}; {HAS_GPU}", f"onnxruntime>={LEAST}; {NO_GPU}"]


def required(build):
    """Requirement of one build."""
    return f"{build}>={BEHIND.get(build, LEAST)}"


CHOICES = {
    "gpu": DEFAULT,
    "cpu": [f"onnxruntime>={LEAST}"],
    "openvino": [required("onnxruntime-openvino")],
    "directml": [required("onnxruntime-directml")],
    "none": [],
}


def engine(settings, installed):
    """Requirements for one onnxruntime.

    Parameters
    ----------
    settings : mapping or None
        Those of the frontend; ``engine`` names a choice.
    installed : sequence of str
        Builds that are installed where the package will be.
    """
    asked = (settings or {}).get("engine", "auto")
    if asked in CHOICES:
        return CHOICES[asked]
    if asked != "auto":
        raise SystemExit(f"engine: found '{asked}', expected one of auto, {', '.join(CHOICES)}")
    return [required(installed[0])] if len(installed) == 1 else DEFAULT


def installed():
    """Builds of onnxruntime in the environment of this interpreter, whatever its path is for now."""
    folders = list({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    names = {found.metadata["Name"] or "" for found in metadata.distributions(path=folders)}
    known = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    return [name for name in BUILDS if name in known]


_parse = Distribution.parse_config_files
_engine = DEFAULT


def _with_engine(self, *arguments, **named):
    _parse(self, *arguments, **named)
    self.install_requires = [*self.install_requires, *_engine]
    self._finalize_requires()


Distribution.parse_config_files = _with_engine


def _looking(name):
    """A hook of setuptools that looks at what is installed before."""
    hook = getattr(build_meta, name)

    def looked(*given, **named):  # pip gives arguments by their places, tox by their names
        global _engine
        settings = signature(hook).bind(*given, **named).arguments.get("config_settings")
        _engine = engine(settings, installed())
        return hook(*given, **named)

    return looked


for _name in (
    "build_wheel",
    "build_editable",
    "prepare_metadata_for_build_wheel",
    "prepare_metadata_for_build_editable",
):
    globals()[_name] = _looking(_name)
