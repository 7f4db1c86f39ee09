"""Scores, drawings and reports of trained models."""
