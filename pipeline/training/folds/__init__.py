"""Cross-validation: folds one by one, then together."""
