"""Training minibatches as the network's input blobs, prepared in threads ahead of the training."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from detectron_ext.config import reads_proposals
from detectron_ext.counted import counted
from detectron_ext.data.data_record import data_record
from detectron_ext.data.loader import MinibatchLoader
from detectron_ext.data.minibatch import image_blobs, load_samples
from detectron_ext.data.order import MinibatchOrder
from detectron_ext.data.records import training_records
from detectron_ext.data.size_limit import report_size_limit
from detectron_ext.sampling.coverage_report import report_anchor_coverage
from detectron_ext.sampling.minibatch_targets import minibatch_targets

if TYPE_CHECKING:
    from detectron_ext.config.settings import Settings

_LOG = logging.getLogger(__name__)


class TrainingMinibatches:
    """The input blobs of each minibatch, as a pure function of its number.

    Args:
        config: a merged configuration.

    Attributes:
        records: the images, with mirrored ones.
        classes: class names, background first.
        data: digests and counts of the data sets.
    """

    def __init__(self, config: Settings):
        self._config = config
        files = config.TRAIN.PROPOSAL_FILES if reads_proposals(config) else None
        self.records, datasets = training_records(config.TRAIN.DATASETS, config, files)
        self.classes = datasets[0].classes
        self.data = data_record(config, files, self.records)
        self._order = MinibatchOrder(
            self.records,
            config.TRAIN.IMS_PER_BATCH,
            config.RNG_SEED,
            config.TRAIN.ASPECT_GROUPING,
        )
        self._targets = minibatch_targets(config)
        _LOG.info("training on %s, including mirrored ones", counted(len(self.records), "image"))
        report_size_limit(
            [record for record in self.records if not record.flipped],
            config.TRAIN.SCALES,
            config.TRAIN.MAX_SIZE,
            "TRAIN.SCALES",
            "TRAIN.MAX_SIZE",
        )
        report_anchor_coverage(self.records, config, self.classes)

    def __call__(self, number: int) -> dict:
        """Return the blobs of minibatch ``number``: data, im_info and the training targets."""
        rng = np.random.default_rng((self._config.RNG_SEED, number))
        indices = self._order.indices(number)
        samples = load_samples(self.records, indices, self._config, rng)
        blobs = image_blobs(samples, self._config, train=True)
        blobs.update(self._targets(samples, *blobs["data"].shape[2:], rng))
        return blobs

    def images(self, number: int) -> list[str]:
        """Return the paths of the images of minibatch ``number``, as they were drawn.

        With LIBRA.DATA.SKIP_BAD_IMAGES others are read in place of those that cannot be read.
        """
        return [self.records[index].path for index in self._order.indices(number)]


def open_loader(
    minibatches: TrainingMinibatches,
    config: Settings,
    num_replicas: int,
    start_iter: int,
    process: int = 0,
    num_processes: int = 1,
) -> MinibatchLoader:
    """Start a loader of training minibatches.

    Args:
        minibatches: makes the blobs of a minibatch.
        config: DATA_LOADER and SOLVER.MAX_ITER.
        num_replicas: number of model replicas in this process, at least 1.
        start_iter: first iteration.
        process: number of this process, from 0.
        num_processes: number of processes that train together.

    Returns:
        A loader that gives one list per iteration, with the blobs of one minibatch per replica.
    """

    def make(iteration: int) -> list:
        first = (iteration * num_processes + process) * num_replicas
        return [minibatches(number) for number in range(first, first + num_replicas)]

    return MinibatchLoader(
        make,
        num_threads=config.DATA_LOADER.NUM_THREADS,
        capacity=config.DATA_LOADER.MINIBATCH_QUEUE_SIZE,
        start=start_iter,
        stop=config.SOLVER.MAX_ITER,
    )
