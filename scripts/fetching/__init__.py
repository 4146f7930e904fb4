"""Unpack a data set."""
