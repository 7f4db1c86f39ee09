"""Finds what is wrong or suspicious in the data sets of a configuration."""
