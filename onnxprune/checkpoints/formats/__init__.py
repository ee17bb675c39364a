"""Checkpoints as files: one file per format, and what all of them have."""
