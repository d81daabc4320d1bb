"""A model that torch exported, and the running statistics that torch gives it."""
