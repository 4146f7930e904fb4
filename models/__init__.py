"""Network definitions and trained bundles."""
