"""A data set downloaded and unpacked."""
