#!/usr/bin/env python
"""Convert a Caffe model's weights to a weights file."""

from __future__ import annotations

import sys

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Convert the weights of a Caffe model, such as a ResNet trained on ImageNet, to a weights "
        "file for TRAIN.WEIGHTS.",
        "tools/pickle_caffe_blobs.py --prototxt ResNet-50-deploy.prototxt "
        "--caffemodel ResNet-50-model.caffemodel --output R-50.pkl",
    )
    parser.add_argument(
        "--prototxt",
        required=True,
        metavar="FILE",
        help="definition of the Caffe network (.prototxt)",
    )
    parser.add_argument(
        "--caffemodel",
        required=True,
        metavar="FILE",
        help="weights of the Caffe network (.caffemodel)",
    )
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="weights file (.pkl) to write"
    )
    arguments = parser.parse_args()

    from detectron_ext.conversion.caffe_model import convert_caffe_model, unrecognised

    names = convert_caffe_model(arguments.prototxt, arguments.caffemodel, arguments.output)
    unknown = unrecognised(names)
    if unknown:
        print(
            f"warning: no body reads {len(unknown)} of {len(names)} blobs, whose layers are not "
            f"named as in the published ResNets (conv1, res2a_branch2a, ...): {', '.join(unknown)}",
            file=sys.stderr,
        )
    if len(unknown) == len(names):
        print("warning: nothing in this file would be used in a training", file=sys.stderr)
    print(f"written: {arguments.output}, {len(names)} blobs: {', '.join(names)}")


if __name__ == "__main__":
    command_line.run(main)
