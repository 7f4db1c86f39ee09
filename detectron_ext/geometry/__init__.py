"""Boxes and anchors: pure functions of arrays, used before and after the network."""
