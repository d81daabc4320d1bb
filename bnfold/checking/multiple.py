"""The bound of the yardstick, apart from all that needs the outcomes of a verification."""

from __future__ import annotations

MULTIPLE = 5.0
"""How many units of rounding are still the same function.

Right folds, of bnfold and of other tools, reach 3.9 in the worst of some ten thousand channels:
their own rounding is one draw of what is measured by others.
"""
