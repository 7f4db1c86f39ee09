#!/usr/bin/env python
"""Train RetinaNet and Libra RetinaNet on the built-in digits and compare them."""

from __future__ import annotations

from pathlib import Path

from detectron_ext import command_line

_CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "digits"


def main() -> None:
    parser = command_line.make_parser(
        "Draw the built-in data set of digits, train plain RetinaNet and Libra RetinaNet on it, "
        "test both and write report.html. The same command resumes a demonstration that was "
        "stopped.",
        "tools/demo.py --output-dir output/demo_short SOLVER.MAX_ITER 500",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/demo",
        help="folder for both runs and the report (default: %(default)s)",
    )
    command_line.add_overrides(parser)
    arguments = parser.parse_args()
    if "OUTPUT_DIR" in arguments.opts[::2]:
        parser.error("OUTPUT_DIR cannot be set here: use --output-dir")
    command_line.load_config(None, arguments.opts)

    from detectron_ext.commands.demo import demo

    models = {
        "RetinaNet": str(_CONFIGS / "retinanet_R-36-tiny_256.yaml"),
        "Libra RetinaNet": str(_CONFIGS / "libra_retinanet_R-36-tiny_256.yaml"),
    }
    print("report:", demo(models, arguments.output_dir, arguments.opts))


if __name__ == "__main__":
    command_line.run(main)
