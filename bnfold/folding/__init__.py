"""Find the norms of a model, plan what folds, and write the folds as edits."""
