"""Every choice of a training run, and the rules that make the open choices."""
