"""Sweeps: many training runs that differ in a few settings, and what they leave."""
