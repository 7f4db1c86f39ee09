"""Runs what modeling builds: training, testing, checkpoints."""
