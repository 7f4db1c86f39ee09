"""Boxes and anchors: pure functions over arrays, used on both sides of the network."""
