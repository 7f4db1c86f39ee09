#!/usr/bin/env python
"""Convert a checkpoint of mmdetection to a weights file."""

from __future__ import annotations

from detectron_ext import command_line
from detectron_ext.conversion.mmdet import ARCHITECTURES, config_path, convert_mmdet_weights
from detectron_ext.conversion.to_mmdet import convert_to_mmdet


def main() -> None:
    parser = command_line.make_parser(
        "Convert a checkpoint of mmdetection 2.x or 3.x to a weights file, and print which "
        "configuration runs it. Only tensors are read; no code in the checkpoint is run. With "
        "--to-mmdet, convert a weights file to a checkpoint that mmdetection 3.x loads.",
        "tools/convert_mmdet_weights.py --in libra_retinanet_r50_fpn_1x_coco.pth "
        "--out libra_retinanet.pkl --arch libra_retinanet_r50",
    )
    parser.add_argument(
        "--in",
        dest="source",
        required=True,
        metavar="FILE",
        help="checkpoint of mmdetection (.pth); with --to-mmdet a weights file (.pkl)",
    )
    parser.add_argument(
        "--out",
        dest="target",
        required=True,
        metavar="FILE",
        help="weights file (.pkl) to write; with --to-mmdet a checkpoint (.pth)",
    )
    parser.add_argument(
        "--arch", required=True, choices=ARCHITECTURES, help="model of the checkpoint"
    )
    parser.add_argument(
        "--style",
        choices=("pytorch", "caffe"),
        help="style of the backbone (default: that stored in the checkpoint; pytorch if none is)",
    )
    parser.add_argument(
        "--to-mmdet", action="store_true", help="convert from this project to mmdetection"
    )
    arguments = parser.parse_args()
    if arguments.to_mmdet:
        if arguments.style:
            parser.error("--style is for conversion from mmdetection: leave it out")
        needed = convert_to_mmdet(arguments.source, arguments.target, arguments.arch)
        print(f"written: {arguments.target}; mmdetection's configuration must say:")
        for name, value in needed.items():
            print(f"  {name} = {value!r}")
        return
    overrides = convert_mmdet_weights(
        arguments.source, arguments.target, arguments.arch, arguments.style
    )
    values = " ".join(f'"{part}"' if " " in str(part) else str(part) for part in overrides)
    print(f"written: {arguments.target}")
    print(f"run it with: --cfg {config_path(arguments.arch)} {values}".rstrip())


if __name__ == "__main__":
    command_line.run(main)
