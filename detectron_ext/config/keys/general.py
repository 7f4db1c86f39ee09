"""Keys at the top level, of the data loader, and of the user's own data sets."""

from __future__ import annotations

import math

import numpy as np

from detectron_ext.config.keys.key import (
    FAST_RCNN,
    UPSTREAM_ONLY,
    WITH_DETECTIONS,
    Key,
    Section,
)
from detectron_ext.config.rules import at_least, at_most, rows

GENERAL: dict[str, Key] = {
    "NUM_GPUS": Key(
        1,
        "Number of GPUs to use; 0 means the CPU. If the machine has fewer GPUs, all of them are "
        "used.",
        at_least(0),
        affects_weights=True,
    ),
    "USE_NCCL": Key(False, "Sum gradients over GPUs with NCCL."),
    "DEDUP_BOXES": Key(
        1 / 16.0,
        "Factor on the coordinates of precomputed proposals. Proposals whose scaled coordinates "
        "round to the same numbers run through the head only once. 0 or less runs every proposal.",
        used_by=FAST_RCNN,
    ),
    "BBOX_XFORM_CLIP": Key(
        math.log(1000.0 / 16.0),
        "Upper limit of the predicted dw and dh. They are the logarithms of the factors by which a "
        "box grows in width and height.",
        used_by=WITH_DETECTIONS,
    ),
    "PIXEL_MEANS": Key(
        np.array([[[102.9801, 115.9465, 122.7717]]]),
        "Mean blue, green and red values, which are subtracted from every pixel; shape (1, 1, 3).",
        affects_weights=True,
    ),
    "RNG_SEED": Key(3, "Seed of every random generator.", at_least(0), affects_weights=True),
    "EPS": Key(
        1e-14,
        "A small number that keeps divisions and logarithms finite.",
        used_by=UPSTREAM_ONLY,
    ),
    "OUTPUT_DIR": Key("/tmp", "Folder for everything that a run writes.", is_path=True),
    "MATLAB": Key(
        "matlab",
        "Matlab executable of the official PASCAL VOC evaluation.",
        is_path=True,
        used_by=UPSTREAM_ONLY,
    ),
    "MEMONGER": Key(True, "Reuse the memory of gradients that are no longer needed."),
    "MEMONGER_SHARE_ACTIVATIONS": Key(
        False,
        "Reuse the memory of activations, too. Their values cannot be read after a step.",
    ),
    "VIS": Key(False, "Draw detections while testing.", used_by=WITH_DETECTIONS),
    "VIS_TH": Key(0.9, "Lowest score of detections that VIS draws.", used_by=WITH_DETECTIONS),
    "EXPECTED_RESULTS": Key(
        [],
        "Results to check after testing: rows [data set, task, metric, value or [mean, std]].",
        rows(4, "data set, task, metric, value"),
        used_by=UPSTREAM_ONLY,
    ),
    "EXPECTED_RESULTS_RTOL": Key(
        0.1, "Relative tolerance of the check of EXPECTED_RESULTS.", used_by=UPSTREAM_ONLY
    ),
    "EXPECTED_RESULTS_ATOL": Key(
        0.005, "Absolute tolerance of the check of EXPECTED_RESULTS.", used_by=UPSTREAM_ONLY
    ),
    "EXPECTED_RESULTS_SIGMA_TOL": Key(
        4,
        "Tolerance of the check of EXPECTED_RESULTS, in standard deviations.",
        used_by=UPSTREAM_ONLY,
    ),
    "EXPECTED_RESULTS_EMAIL": Key(
        "",
        "Address to which upstream writes when the check of EXPECTED_RESULTS fails.",
        used_by=UPSTREAM_ONLY,
    ),
    "DOWNLOAD_CACHE": Key(
        "/tmp/detectron-download-cache",
        "Folder with local copies of weights and proposals that are named by URL.",
        is_path=True,
        used_by=UPSTREAM_ONLY,
    ),
    "ROOT_DIR": Key(
        "",
        "Folder of the checkout, in which upstream finds its data. Default: the current folder.",
        is_path=True,
        used_by=UPSTREAM_ONLY,
    ),
}

DATA_LOADER = Section(
    "The loader of training images.",
    NUM_THREADS=Key(4, "Threads that prepare minibatches.", at_least(1), at_most(256)),
    MINIBATCH_QUEUE_SIZE=Key(
        64,
        "Largest number of minibatches in the queue that all devices share.",
        at_least(1),
        at_most(4096),
    ),
    BLOBS_QUEUE_CAPACITY=Key(
        8, "Largest number of minibatches in the queue of each device.", used_by=UPSTREAM_ONLY
    ),
)

CLUSTER = Section(
    "Runs on a cluster.",
    ON_CLUSTER=Key(False, "The run is a job on a cluster.", used_by=UPSTREAM_ONLY),
)

DATASETS_EXTRA = Section(
    "Your own data sets: `{name: {im_dir: image folder, ann_fn: annotation file}}`. See "
    "`config.dataset_entry.FIELDS` for all fields.",
    free_form=True,
)
