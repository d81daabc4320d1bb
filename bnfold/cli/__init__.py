"""One file for each command: parse, call one function of api.py, print its report, exit."""
