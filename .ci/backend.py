"""The build backend: setuptools, and a source distribution that holds all that its tests read.

setuptools looks for the list of further files beside ``pyproject.toml`` only; here it lies in this folder.
"""

from setuptools.build_meta import *  # noqa: F403
from setuptools.command.egg_info import manifest_maker

manifest_maker.template = ".ci/sdist.in"
