"""ONNX files and graphs: byte ranges, the def-use index, constant expressions, saving."""
