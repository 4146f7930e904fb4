"""Cases -> arrays on disk, and what they are like."""
