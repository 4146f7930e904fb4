"""Download and unpack a data set."""
