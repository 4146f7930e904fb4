"""What validation cases choose: weights of views, thresholds, post-processing."""
