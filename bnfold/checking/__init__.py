"""Whether two models are the same function: feeds, the yardstick of rounding, verify."""
