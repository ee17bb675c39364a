"""One layer as a pass sees it; see :mod:`onnxprune.scoring.layer`."""

from .scoring.layer import Layer

__all__ = ["Layer"]
