"""ONNX files for trying bnfold, and the program that trained those of the digits."""
