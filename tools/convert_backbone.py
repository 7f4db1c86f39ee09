#!/usr/bin/env python
"""Convert a backbone that was trained on ImageNet to a weights file."""

from __future__ import annotations

from detectron_ext import command_line
from detectron_ext.conversion.backbones import SOURCES, STYLES, convert_backbone


def main() -> None:
    parser = command_line.make_parser(
        "Convert a backbone that another program trained on ImageNet to a weights file for "
        "TRAIN.WEIGHTS, and print the settings it needs. Only tensors are read; no code in the "
        "checkpoint is run.",
        "tools/convert_backbone.py --from torchvision --in resnet50-0676ba61.pth --out R-50.pkl",
    )
    parser.add_argument(
        "--from",
        dest="kind",
        required=True,
        choices=tuple(SOURCES),
        help="origin of the checkpoint",
    )
    parser.add_argument(
        "--in", dest="source", required=True, help="checkpoint (.pth, .pt or .safetensors)"
    )
    parser.add_argument("--out", dest="target", required=True, help="weights file (.pkl) to write")
    parser.add_argument(
        "--style",
        choices=STYLES,
        help="of a ResNet: pytorch has the stride in the 3x3 convolution and reads RGB, caffe has "
        "it in the first 1x1 convolution and reads BGR (default: caffe from detectron2, else "
        "pytorch)",
    )
    arguments = parser.parse_args()
    backbone = convert_backbone(arguments.source, arguments.target, arguments.kind, arguments.style)
    print(
        f"written: {arguments.target}, {len(backbone.blobs)} blobs from {backbone.num_tensors} "
        f"tensors; not used: {', '.join(backbone.unused) or 'none'}"
    )
    pairs = [part for pair in backbone.settings.items() for part in pair]
    values = " ".join(f'"{part}"' if " " in str(part) else str(part) for part in pairs)
    print(f"train from it with: {values} TRAIN.WEIGHTS {arguments.target}")


if __name__ == "__main__":
    command_line.run(main)
