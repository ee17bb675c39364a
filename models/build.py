"""Builders of small networks for tests, one for each structure a pruner has to understand.

Every builder is a function without required arguments that returns a complete
``onnx.ModelProto``. The weights are drawn from a seed, so the same seed gives the
same bytes::

    from models.build import BUILDERS

    for name, builder in BUILDERS.items():
        model = builder()

All inputs are float32 tensors. Run as a script, the module writes each model to a
file of a folder::

    python -m models.build folder [name ...]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnx

from models import convolutional, formats, spatial, transformers
from models.net import BUILDERS as BUILDERS
from models.net import Net as Net

_MODULES = (convolutional, spatial, transformers, formats)
"""Importing them fills the table."""


def main(folder: Path, names: Sequence[str]) -> None:
    """Write the models called `names`, or all of them, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or BUILDERS:
        onnx.save(BUILDERS[name](), folder / f"{name}.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the small test networks to files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="name", help="all of them by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BUILDERS):
        parser.error(f"no such network: {', '.join(sorted(unknown))}")
    main(arguments.folder, arguments.names)
