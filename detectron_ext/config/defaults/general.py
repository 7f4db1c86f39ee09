"""Defaults at the top level, of the data loader, and of the user's own data sets."""

from __future__ import annotations

import math

import numpy as np

GENERAL = {
    # Devices to use; 0 is the CPU.
    "NUM_GPUS": 1,
    # Sum gradients over devices with NCCL.
    "USE_NCCL": False,
    # Scale at which regions that round to the same features count as one; 0 keeps all.
    "DEDUP_BOXES": 1 / 16.0,
    # Upper limit for predicted log size changes, so that their exponential stays finite.
    "BBOX_XFORM_CLIP": math.log(1000.0 / 16.0),
    # Mean blue, green, red value subtracted from every pixel, shape (1, 1, 3).
    "PIXEL_MEANS": np.array([[[102.9801, 115.9465, 122.7717]]]),
    # Seed of every random generator.
    "RNG_SEED": 3,
    # A small number that keeps divisions and logarithms finite.
    "EPS": 1e-14,
    # Folder in which everything a run writes has its place.
    "OUTPUT_DIR": "/tmp",
    # Matlab executable of the official PASCAL VOC evaluation.
    "MATLAB": "matlab",
    # Let gradients share memory where their lifetimes allow it.
    "MEMONGER": True,
    # Let activations share memory too; their values can no longer be looked at afterwards.
    "MEMONGER_SHARE_ACTIVATIONS": False,
    # Draw detections while testing, those scored at least VIS_TH.
    "VIS": False,
    "VIS_TH": 0.9,
    # Results to check after testing: [data set, task, metric, value or [mean, std]] each.
    "EXPECTED_RESULTS": [],
    # Relative and absolute tolerance of that check, and in standard deviations.
    "EXPECTED_RESULTS_RTOL": 0.1,
    "EXPECTED_RESULTS_ATOL": 0.005,
    "EXPECTED_RESULTS_SIGMA_TOL": 4,
    # Address that upstream writes to when the check fails.
    "EXPECTED_RESULTS_EMAIL": "",
    # Folder with local copies of weights and proposals that are named by URL.
    "DOWNLOAD_CACHE": "/tmp/detectron-download-cache",
}

DATA_LOADER = {
    # Threads that prepare minibatches.
    "NUM_THREADS": 4,
    # Minibatches that may wait in the queue shared by all devices.
    "MINIBATCH_QUEUE_SIZE": 64,
    # Minibatches that may wait in each device's queue.
    "BLOBS_QUEUE_CAPACITY": 8,
}

CLUSTER = {
    # The run is a job on a cluster.
    "ON_CLUSTER": False,
}

# The user's own data sets: {name: {im_dir: image folder, ann_fn: annotation file}}. Optional are
# im_prefix, with which the names of image files begin where the annotations leave it out, and
# format, a name that is registered in data.formats.FORMATS (coco if left out).
DATASETS_EXTRA: dict = {}
