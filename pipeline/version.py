"""The version of voxtile, written only here."""

__version__ = "0.1.0"
