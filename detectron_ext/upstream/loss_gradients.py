"""Losses of ours in the form in which upstream's heads return theirs."""

from __future__ import annotations


def loss_gradients(model, losses: list) -> dict:
    """Add a gradient of 1 for each loss blob; returns loss name to gradient name."""
    from detectron.utils import blob as upstream_blobs

    return upstream_blobs.get_loss_gradients(model, losses)
