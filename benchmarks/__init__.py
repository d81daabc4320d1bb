"""What bnfold is measured by; see README.md. Each program runs as ``python -m benchmarks.NAME``."""
