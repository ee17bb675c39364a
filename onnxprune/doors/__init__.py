"""Doors for users of other tools: their options, as those of ``onnxprune prune``."""
