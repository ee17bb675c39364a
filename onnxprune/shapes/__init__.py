"""Shapes, types and small values of all tensors, before any label is set."""
