"""Remove channels from an exported ONNX model, and prove what was done."""

from pathlib import Path

# In a source checkout ``passes/`` is our sibling; in an installed wheel it is our child.
if not (_here := Path(__file__).parent).joinpath("passes").is_dir():
    __path__.append(str(_here.parent))

__version__ = "0.1.0"
