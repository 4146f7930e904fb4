"""Synthetic cohorts with exact truth to train on."""
