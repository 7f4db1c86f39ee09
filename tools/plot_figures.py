#!/usr/bin/env python
"""Draw figures of losses, samplers and training curves."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Draw figures as PNG and SVG. The box losses are always drawn. --cfg and --wts of a "
        "trained RetinaNet add the IoU of the negatives that each sampler draws, the share of each "
        "group of samples in the gradients, and, for a balanced pyramid, the energy of its levels "
        "before and after balancing. --runs adds training curves, and --results the differences "
        "that sweeps have found, with their intervals. KEY VALUE pairs override keys of --cfg and "
        "must stand before --runs, --names and --results.",
        "tools/plot_figures.py --cfg configs/bccd/retinanet_R-36-tiny_256_bfp.yaml "
        "--wts model_final.pkl --runs output/plain output/libra",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/figures",
        help="folder for the figures (default: %(default)s)",
    )
    command_line.add_config_file(parser, False, "YAML configuration file of a trained RetinaNet")
    parser.add_argument(
        "--wts", dest="weights", metavar="FILE", help="weights file of that RetinaNet (.pkl)"
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="N",
        default=32,
        help="number of training images to run the RetinaNet on (default: 32)",
    )
    parser.add_argument(
        "--runs", nargs="+", default=[], metavar="RUN", help="output folders of runs"
    )
    parser.add_argument(
        "--names", nargs="+", default=[], metavar="NAME", help="names of the runs in the figures"
    )
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="FILE",
        help="JSON files of sweeps' reports, such as docs/results/*.json",
    )
    command_line.add_overrides(parser)
    arguments = parser.parse_args()
    if bool(arguments.cfg_file) != bool(arguments.weights):
        parser.error("--cfg and --wts go together")
    if arguments.opts and not arguments.cfg_file:
        parser.error(f"{arguments.opts[0]} overrides a key of --cfg, which is missing")
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
        arguments.results,
    )


if __name__ == "__main__":
    command_line.run(main)
