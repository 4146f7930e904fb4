"""Every choice of a training, and the rules that fill in what is left open."""
