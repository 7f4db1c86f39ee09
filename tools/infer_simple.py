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
    command_line.add_config_file(parser, required=False)
    parser.add_argument("--wts", metavar="FILE", help="weights file of the model (.pkl)")
    parser.add_argument(
        "--onnx",
        metavar="FILE",
        help="model of tools/export_onnx.py, in place of --cfg and --wts; onnxruntime runs it",
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


def _check_model(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with one line unless either --cfg and --wts or --onnx is given."""
    given = (arguments.cfg_file, arguments.wts, arguments.upstream)
    if arguments.onnx and any(value is not None for value in given):
        parser.error("--onnx takes the place of --cfg and --wts, and cannot go with --upstream")
    missing = [
        flag
        for flag, value in (("--cfg", arguments.cfg_file), ("--wts", arguments.wts))
        if value is None and not arguments.onnx
    ]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)} (or --onnx)")


def _model(arguments: argparse.Namespace) -> tuple:
    """Return the configuration, the file of the weights, and options of ``infer``."""
    if not arguments.onnx:
        return command_line.load_config(arguments.cfg_file, arguments.opts), arguments.wts, {}

    from detectron_ext.deployment.onnx_detector import OnnxDetector

    detector = OnnxDetector(arguments.onnx)
    config = detector.config(arguments.opts)
    command_line.start(config.LIBRA.THREADS)
    return config, arguments.onnx, {"make_detector": lambda config, path: detector}


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    if not 0 <= arguments.thresh <= 1:
        parser.error("--thresh must be a score from 0 to 1")
    _check_model(parser, arguments)
    if command_line.is_key(arguments.im_or_folder):
        key = arguments.im_or_folder
        parser.error(f"give the image or folder before the KEY VALUE pairs, not after {key}")
    # Where a key is expected, an image was meant.
    more = [text for text in arguments.opts[::2] if os.path.exists(text)]
    if more:
        parser.error(f"{more[0]}: give one image or one folder of images, not several")
    if command_line.runs_upstream(arguments, "infer_simple"):
        return
    config, weights, options = _model(arguments)

    from detectron_ext.commands.infer import infer

    infer(
        config,
        weights,
        arguments.im_or_folder,
        arguments.output_dir,
        image_extension=arguments.image_ext,
        picture_extension=arguments.output_ext,
        threshold=arguments.thresh,
        always=arguments.always_out,
        **options,
    )


if __name__ == "__main__":
    command_line.run(main)
