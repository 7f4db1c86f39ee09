"""Conversion of trained models from other programs."""
