#!/usr/bin/env python
"""Detect objects in image files and draw them."""

from __future__ import annotations

import argparse
import os

from detectron_ext import command_line


def _parser() -> argparse.ArgumentParser:
    parser = command_line.make_parser(
        "Detect objects in one image or in every image of a folder. For each image with "
        "detections, a picture with boxes, classes and scores is written. detections.json lists "
        "the detections of all images.",
        "tools/infer_simple.py --cfg configs/bccd/libra_retinanet_R-36-tiny_256.yaml "
        "--wts output/model_final.pkl --output-dir output/pictures images/",
    )
    command_line.add_config_file(parser)
    parser.add_argument(
        "--wts", required=True, metavar="FILE", help="weights file of the model (.pkl)"
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/infer",
        help="folder for the pictures (default: %(default)s; in Detectron: /tmp/infer_simple)",
    )
    parser.add_argument(
        "--image-ext",
        metavar="EXTENSION",
        default="",
        help="in a folder, read only files with this extension (default: all images; in Detectron: "
        "jpg)",
    )
    parser.add_argument(
        "--output-ext",
        metavar="EXTENSION",
        default="png",
        help="file format of the pictures (default: png; in Detectron: pdf)",
    )
    parser.add_argument(
        "--always-out", action="store_true", help="also write pictures of images without detections"
    )
    parser.add_argument(
        "--thresh",
        type=float,
        metavar="SCORE",
        default=0.7,
        help="lowest score of a detection that is drawn and listed (default: 0.7)",
    )
    parser.add_argument(
        "--kp-thresh",
        type=float,
        metavar="SCORE",
        help="accepted for Detectron's scripts, without effect: no keypoints are drawn",
    )
    command_line.add_upstream(parser)
    parser.add_argument(
        "im_or_folder", metavar="IMAGE_OR_FOLDER", help="an image file or a folder of images"
    )
    command_line.add_overrides(parser)
    return parser


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    if not 0 <= arguments.thresh <= 1:
        parser.error("--thresh must be a score from 0 to 1")
    if command_line.is_key(arguments.im_or_folder):
        key = arguments.im_or_folder
        parser.error(f"give the image or folder before the KEY VALUE pairs, not after {key}")
    # Where a key is expected, an image was meant.
    more = [text for text in arguments.opts[::2] if os.path.exists(text)]
    if more:
        parser.error(f"{more[0]}: give one image or one folder of images, not several")
    if command_line.runs_upstream(arguments, "infer_simple"):
        return
    config = command_line.load_config(arguments.cfg_file, arguments.opts)

    from detectron_ext.commands.infer import infer

    infer(
        config,
        arguments.wts,
        arguments.im_or_folder,
        arguments.output_dir,
        image_extension=arguments.image_ext,
        picture_extension=arguments.output_ext,
        threshold=arguments.thresh,
        always=arguments.always_out,
    )


if __name__ == "__main__":
    command_line.run(main)
