"""Cross-validation: train folds one by one, then join them.

cross_validation  `cross_validate`
folds             the cases that a fold trains with, chooses with and is scored on
held_out          scores of the held-out cases
finished_folds    which folds are finished, and whether they belong together
joining           finished folds -> tables (cross_validation_page) and an ensemble
"""
