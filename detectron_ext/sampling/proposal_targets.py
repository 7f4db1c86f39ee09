"""Which proposals train the box head, and what they should predict (Fast R-CNN, section 2.3).

The rules are Detectron's, with two exceptions:

- Crowds are never objects, and proposals inside them are left out. Detectron does this only for
  proposals from a file. It treats crowds as objects if the proposals come from the RPN of the net.
- Coordinates are in pixels of the network's input. Detectron's are in pixels of the image file,
  which changes the widths, since a box includes its last pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectron_ext.config.settings import Settings, TrainSettings
from detectron_ext.geometry.boxes import encode
from detectron_ext.geometry.roi_levels import distribute_rois, roi_level_names
from detectron_ext.sampling.box_sampler import BoxSampler
from detectron_ext.sampling.matching import lies_in_crowd, match_boxes
from detectron_ext.sampling.sampling_statistics import counts_blob

SAMPLER = "roi"
_BLOBS = ("rois", "labels_int32", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")


class _SampledRegions(NamedTuple):
    """The R sampled regions of one image or of all images.

    Attributes:
        rois: (R, 5) float32 rows (image, x1, y1, x2, y2).
        labels: (R,) int32 class, 0 for background.
        box_classes: (R,) int32 class whose box is regressed, 0 for none.
        deltas: (R, 4) float32 regression targets, 0 if there are none.
    """

    rois: np.ndarray
    labels: np.ndarray
    box_classes: np.ndarray
    deltas: np.ndarray


def proposal_blob_names(config: Settings) -> list[str]:
    """Return the names of the blobs that `ProposalTargets` makes, in its order."""
    levels = roi_level_names("rois", config) if _is_multilevel(config) else []
    return [*_BLOBS, *levels, counts_blob(SAMPLER)]


def _is_multilevel(config: Settings) -> bool:
    return bool(config.FPN.FPN_ON and config.FPN.MULTILEVEL_ROIS)


class ProposalTargets:
    """Samples proposals and builds the box head's training blobs; thread-safe.

    Args:
        config: LIBRA.SAMPLER and FPN are used; of TRAIN: BATCH_SIZE_PER_IM, FG_*, BG_*, BBOX_THRESH
            and CROWD_FILTER_THRESH; of MODEL: NUM_CLASSES, CLS_AGNOSTIC_BBOX_REG and
            BBOX_REG_WEIGHTS.
    """

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._sampler = BoxSampler(config.LIBRA.SAMPLER, config.TRAIN.BG_THRESH_HI)

    def __call__(self, rois: np.ndarray, gt_boxes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Sample the proposals of a minibatch.

        - Ground-truth boxes are proposals, too. Crowds are not.
        - A proposal is foreground if its IoU with its best ground-truth box is at least FG_THRESH.
          It is background if the IoU lies in [BG_THRESH_LO, BG_THRESH_HI). A proposal with more
          than CROWD_FILTER_THRESH of its area in a crowd is neither.
        - An image gives at most BATCH_SIZE_PER_IM regions. At most round(FG_FRACTION *
          BATCH_SIZE_PER_IM) are foreground, and background fills the rest. There are fewer regions
          if there are not enough proposals.
        - If no image gives a region, one background region of one pixel is added, because the head
          needs at least one row.

        Args:
            rois: (P, 5) float32 proposals (image, x1, y1, x2, y2) in network pixels. P may be 0.
            gt_boxes: (G, 7) float32 rows (image, x1, y1, x2, y2, class from 1, is_crowd).
            seed: seed of the draw. The same seed gives the same draw.

        Returns:
            - rois: (R, 5) float32, image by image, foreground first.
            - labels_int32: (R,) int32 class, 0 for background.
            - bbox_targets: (R, 4 * C) float32, dx, dy, dw, dh in the columns of the region's class,
              0 elsewhere. C is NUM_CLASSES, or 2 with CLS_AGNOSTIC_BBOX_REG.
            - bbox_inside_weights and bbox_outside_weights: (R, 4 * C) float32, 1 in these columns.
            - On a pyramid also the blobs of `geometry.roi_levels.distribute_rois`.
            - sampling_counts_roi: in the layout of `sampling_statistics`.

        Raises:
            ConfigError: a sampler of LIBRA.SAMPLER returns a wrong result, see `BoxSampler`.
        """
        rng = np.random.default_rng(seed)
        parts = [
            self._sample_image(rois[rois[:, 0] == image], gt_boxes[gt_boxes[:, 0] == image], rng)
            for image in np.unique(np.concatenate((rois[:, 0], gt_boxes[:, 0], [0])))
        ]
        sampled = _SampledRegions(*map(np.concatenate, zip(*(part for part, _ in parts))))
        if not len(sampled.rois):
            sampled = _one_background_region()
        blobs = {"rois": sampled.rois, "labels_int32": sampled.labels}
        blobs.update(self._box_blobs(sampled.box_classes, sampled.deltas))
        if _is_multilevel(self._config):
            blobs.update(distribute_rois(sampled.rois, self._config))
        blobs[counts_blob(SAMPLER)] = np.sum([counts for _, counts in parts], axis=0)
        return blobs

    def _sample_image(
        self, rois: np.ndarray, gt_boxes: np.ndarray, rng: np.random.Generator
    ) -> tuple[_SampledRegions, np.ndarray]:
        """Return the sampled regions of one image, and their counts for the training log."""
        is_crowd = gt_boxes[:, 6] > 0
        truth, classes = gt_boxes[~is_crowd, :5], gt_boxes[~is_crowd, 5].astype(np.int32)
        rois = self._without_crowds(rois, gt_boxes[is_crowd, 1:5])
        matched, overlaps, _ = match_boxes(rois[:, 1:], truth[:, 1:])
        # A ground-truth box matches itself, even if another object has the same box.
        rois = np.concatenate((truth, rois))
        matched = np.concatenate((np.arange(len(truth)), matched))
        overlaps = np.concatenate((np.ones(len(truth), dtype=np.float32), overlaps))
        foreground, background = draw_regions(
            self._config.TRAIN, self._sampler, matched, overlaps, rng
        )
        counts = self._sampler.counts(overlaps, matched, foreground, background, len(truth))
        chosen = np.concatenate((foreground, background))
        labels = np.zeros(len(chosen), dtype=np.int32)
        labels[: len(foreground)] = classes[matched[foreground]]
        box_classes = np.zeros(len(chosen), dtype=np.int32)
        deltas = np.zeros((len(chosen), 4), dtype=np.float32)
        if len(truth):
            close = np.flatnonzero(overlaps[chosen] >= self._config.TRAIN.BBOX_THRESH)
            targets = matched[chosen[close]]
            box_classes[close] = classes[targets]
            weights = self._config.MODEL.BBOX_REG_WEIGHTS
            deltas[close] = encode(rois[chosen[close], 1:], truth[targets, 1:], weights)
        return _SampledRegions(rois[chosen], labels, box_classes, deltas), counts

    def _without_crowds(self, rois: np.ndarray, crowds: np.ndarray) -> np.ndarray:
        threshold = self._config.TRAIN.CROWD_FILTER_THRESH
        return rois[~lies_in_crowd(rois[:, 1:], crowds, threshold)]

    def _box_blobs(self, classes: np.ndarray, deltas: np.ndarray) -> dict:
        """Write deltas (R, 4) into the columns of their classes (R,). Class 0 has no box."""
        num_groups = self._config.MODEL.NUM_CLASSES
        if self._config.MODEL.CLS_AGNOSTIC_BBOX_REG:
            num_groups, classes = 2, np.minimum(classes, 1)
        rows = np.flatnonzero(classes)
        targets = np.zeros((len(classes), num_groups, 4), dtype=np.float32)
        targets[rows, classes[rows]] = deltas[rows]
        weights = np.zeros_like(targets)
        weights[rows, classes[rows]] = 1
        flat = (len(classes), 4 * num_groups)
        return {
            "bbox_targets": targets.reshape(flat),
            "bbox_inside_weights": weights.reshape(flat),
            "bbox_outside_weights": weights.reshape(flat).copy(),
        }


def draw_regions(
    settings: TrainSettings,
    sampler: BoxSampler,
    matched: np.ndarray,
    overlaps: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the regions of one image by the rules of `ProposalTargets`.

    Args:
        settings: the TRAIN node of the configuration. BATCH_SIZE_PER_IM, FG_* and BG_THRESH_* are
            used.
        sampler: draws from the candidates.
        matched: (K,) int64, the best ground-truth box of every region.
        overlaps: (K,) float, the IoU with that box.
        rng: source of the draws; foreground is drawn first.

    Returns:
        The indices of the foreground regions, (F,) int64, and of the background regions, (B,)
        int64. All are distinct, and F + B is at most BATCH_SIZE_PER_IM.
    """
    foreground = np.flatnonzero(overlaps >= settings.FG_THRESH)
    is_background = (overlaps < settings.BG_THRESH_HI) & (overlaps >= settings.BG_THRESH_LO)
    most = int(np.round(settings.FG_FRACTION * settings.BATCH_SIZE_PER_IM))
    foreground = sampler.positives(matched, foreground, most, rng)
    count = settings.BATCH_SIZE_PER_IM - len(foreground)
    background = sampler.negatives(overlaps, np.flatnonzero(is_background), count, rng)
    return foreground, background


def _one_background_region() -> _SampledRegions:
    return _SampledRegions(
        np.zeros((1, 5), dtype=np.float32),
        np.zeros(1, dtype=np.int32),
        np.zeros(1, dtype=np.int32),
        np.zeros((1, 4), dtype=np.float32),
    )
