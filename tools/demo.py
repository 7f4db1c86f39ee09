#!/usr/bin/env python
"""Train RetinaNet and Libra RetinaNet on the same images and compare them."""

from __future__ import annotations

from pathlib import Path

from detectron_ext import command_line

_CONFIGS = Path(__file__).resolve().parent.parent / "configs"
_MODELS = {"RetinaNet": "retinanet", "Libra RetinaNet": "libra_retinanet"}
_ON_DIGITS = "digits/{}_R-36-tiny_256.yaml"
_ON_PHOTOGRAPHS = "finetune/{}_EfficientNetLite0_320.yaml"


def main() -> None:
    parser = command_line.make_parser(
        "Train plain RetinaNet and Libra RetinaNet, test both and write report.html. The images "
        "are the built-in digits, which are drawn on first use, or your own photographs. The same "
        "command resumes a demonstration that was stopped.",
        "tools/demo.py --output-dir output/demo_short SOLVER.MAX_ITER 500\n"
        "tools/demo.py --photographs /data/cells",
    )
    parser.add_argument(
        "--photographs",
        metavar="FOLDER",
        help="train on a folder in COCO format, from ImageNet weights: annotations/*train*.json, "
        "annotations/*val*.json and images/, or a Roboflow export in COCO format",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        help="folder for both runs and the report (default: output/demo, with --photographs "
        "output/demo_photos)",
    )
    command_line.add_overrides(parser)
    arguments = parser.parse_args()
    if "OUTPUT_DIR" in arguments.opts[::2]:
        parser.error("OUTPUT_DIR cannot be set here: use --output-dir")
    if arguments.photographs == "":
        parser.error("--photographs needs a folder; with make: make demo-photos PHOTOS=FOLDER")
    command_line.load_config(None, arguments.opts)

    from detectron_ext.commands.demo import demo, photograph_settings

    on_digits = arguments.photographs is None
    files = _ON_DIGITS if on_digits else _ON_PHOTOGRAPHS
    models = {name: str(_CONFIGS / files.format(model)) for name, model in _MODELS.items()}
    data = [] if on_digits else photograph_settings(arguments.photographs)
    folder = arguments.output_dir or ("output/demo" if on_digits else "output/demo_photos")
    print("report:", demo(models, folder, [*data, *arguments.opts]))


if __name__ == "__main__":
    command_line.run(main)
