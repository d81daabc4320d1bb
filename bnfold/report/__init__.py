"""Renders outcomes: text for people, JSON for programs."""
