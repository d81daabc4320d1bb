"""Sums of parallel branches of one tensor become one Conv: opt-in, before the fold itself."""
