#!/usr/bin/env python
"""Draw figures of what the Libra parts change."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Draw figures as PNG and SVG. The box losses are always drawn. With --cfg and --wts of a "
        "trained RetinaNet: the IoU of the negatives that each sampler draws, the share of the "
        "gradient that each box takes, and the energy of the pyramid levels with and without "
        "balancing. With --runs: training curves. KEY VALUE pairs must stand before --runs and "
        "--names.",
        "tools/plot_figures.py --cfg configs/bccd/retinanet_R-36-tiny_256_bfp.yaml "
        "--wts model_final.pkl --runs output/plain output/libra",
    )
    parser.add_argument(
        "--output-dir",
        default="output/figures",
        help="folder for the figures (default: %(default)s)",
    )
    parser.add_argument("--cfg", dest="cfg_file", help="configuration of a trained RetinaNet")
    parser.add_argument("--wts", dest="weights", help="weights file of that RetinaNet")
    parser.add_argument(
        "--images", type=int, default=32, help="number of training images used (default: 32)"
    )
    parser.add_argument(
        "--runs", nargs="+", default=[], metavar="RUN", help="output folders of runs"
    )
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="NAME", help="names of the runs in the figures"
    )
    command_line.add_overrides(parser)
    arguments = parser.parse_args()
    if bool(arguments.cfg_file) != bool(arguments.weights):
        parser.error("--cfg and --wts go together")
    if arguments.images < 1:
        parser.error("--images must be at least 1")
    config = None
    if arguments.cfg_file:
        config = command_line.load_config(arguments.cfg_file, arguments.opts)

    from detectron_ext.commands.figures import plot_figures

    plot_figures(
        arguments.output_dir,
        config,
        arguments.weights,
        arguments.images,
        arguments.runs,
        arguments.names,
    )


if __name__ == "__main__":
    command_line.run(main)
