"""``python -m onnxprune`` is the same as ``onnxprune``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
