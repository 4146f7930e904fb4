"""Planes -> fitted networks."""
