#!/usr/bin/env python
"""Draw the detections of a test beside the ground truth."""

from __future__ import annotations

import argparse

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Draw the ground truth and the detections of a test side by side, one picture for each "
        "image.",
        "tools/visualize_results.py --dataset bccd_val "
        "--detections output/.../detections.json --output-dir output/pictures",
    )
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="catalog name of the data set"
    )
    parser.add_argument(
        "--detections", required=True, metavar="FILE", help="detections.json of the test"
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/visualize",
        help="folder for the pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--thresh",
        type=float,
        metavar="SCORE",
        default=0.5,
        help="lowest score of a detection that is drawn (default: 0.5)",
    )
    parser.add_argument(
        "--first",
        type=_count,
        default=0,
        metavar="N",
        help="only draw the first N images; 0 draws all (default: 0)",
    )
    command_line.add_config_file(
        parser, False, "YAML configuration file whose DATASETS_EXTRA has the data set"
    )
    arguments = parser.parse_args()
    if not 0 <= arguments.thresh <= 1:
        parser.error("--thresh must be a score from 0 to 1")
    config = command_line.load_config(arguments.cfg_file)

    from detectron_ext.commands.visualize import visualize

    visualize(
        config,
        arguments.dataset,
        arguments.detections,
        arguments.output_dir,
        threshold=arguments.thresh,
        first=arguments.first,
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of images")
    return int(text)


if __name__ == "__main__":
    command_line.run(main)
