"""One file for each operator: small pure functions, and what they need to read of a node."""
