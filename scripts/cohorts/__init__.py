"""Synthetic cohorts with an exact reference, for training."""
