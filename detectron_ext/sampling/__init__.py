"""Decides which boxes are trained, and what each of them should predict."""
