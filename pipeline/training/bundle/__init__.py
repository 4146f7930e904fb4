"""Fitted networks -> a bundle with its card and history."""
