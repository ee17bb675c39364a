"""Back into training: constants of an ONNX file, and entries of the checkpoint that it was exported from."""
