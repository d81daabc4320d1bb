"""Affine maps and linear layers in float64: NumPy only, knows no graph."""
