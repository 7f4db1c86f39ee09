#!/usr/bin/env python
"""Test a trained model."""

from __future__ import annotations

import argparse
import logging
import os
import time

from detectron_ext import command_line
from detectron_ext.errors import UserError
from detectron_ext.local_files import is_url

_LOG = logging.getLogger("detectron_ext")
_POLL_SECONDS = 10


def main() -> None:
    parser = command_line.make_parser(
        "Detect objects in every image of TEST.DATASETS and write the scores (AP, AP50, ...) to "
        "results.json. The weights are those of TEST.WEIGHTS. If it is empty, they are the final "
        "weights that tools/train_net.py has written with the same configuration.",
        "tools/test_net.py --cfg configs/bccd/libra_retinanet_R-36-tiny_256.yaml "
        "TEST.WEIGHTS output/model_final.pkl",
    )
    parser.add_argument(
        "--wait",
        nargs="?",
        type=_as_bool,
        const=True,
        default=False,
        metavar="True",
        help="wait until the file TEST.WEIGHTS exists (default: False; in Detectron: True); the "
        "value True may be left out if this is the last flag",
    )
    parser.add_argument(
        "--vis",
        action="store_true",
        help="also draw the detections on the images; the same as VIS True",
    )
    parser.add_argument(
        "--multi-gpu-testing",
        action="store_true",
        help="accepted for Detectron's scripts, without effect: one device is used",
    )
    parser.add_argument(
        "--range",
        type=int,
        nargs=2,
        metavar=("START", "END"),
        help="only test images START (inclusive) to END (exclusive); the detections are written "
        "but not scored",
    )
    command_line.add_upstream(parser)
    command_line.add_config_arguments(parser)
    arguments = parser.parse_args()
    if command_line.runs_upstream(arguments, "test_net"):
        return
    overrides = arguments.opts + (["VIS", "True"] if arguments.vis else [])
    config = command_line.load_config(arguments.cfg_file, overrides)
    if arguments.wait:
        _wait_for(config.TEST.WEIGHTS)

    from detectron_ext.commands.train_and_test import test

    test(config, image_range=arguments.range)


def _as_bool(text: str) -> bool:
    """Return the value of --wait. In Detectron it takes one, so a KEY after it is a mistake."""
    if text.lower() in ("true", "1", "false", "0", ""):
        return text.lower() in ("true", "1")
    raise argparse.ArgumentTypeError(f"{text!r} follows it; write --wait True {text}")


def _wait_for(path: str) -> None:
    if not path or is_url(path):
        raise UserError("--wait needs TEST.WEIGHTS: the file to wait for")
    if not os.path.exists(path):
        _LOG.info("waiting for %s", path)
    while not os.path.exists(path):
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    command_line.run(main)
