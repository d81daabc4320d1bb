"""A differential fuzzer: random graphs, folded, and compared in float64 with what they were.

``sketch`` grows a graph node by node; ``linear``, ``norms``, ``movement``, ``arithmetic``,
``windows``, ``quantised`` and ``fused`` have one builder for each operator, ``families`` lists
them; ``generate`` makes a model of a seed; ``judge`` folds and compares it; ``tally`` adds up.
"""
