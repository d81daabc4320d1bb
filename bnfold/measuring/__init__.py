"""How long two models take in onnxruntime, run in turn; only child processes import it."""
