#!/usr/bin/env python
"""Check the data sets of a configuration: counts, suspicious annotations, fit of anchors."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> int:
    parser = command_line.make_parser(
        "Check the data sets of a configuration as training and testing read them. Counts and "
        "findings are printed, and a page with the worst images is written. The exit status is 0 "
        "if nothing is wrong, 1 if something is, and 2 if the data cannot be read.",
        "tools/check_data.py --cfg configs/digits/retinanet_R-36-tiny_256.yaml "
        "--output-dir output/check",
    )
    parser.add_argument(
        "--fix",
        metavar="FILE",
        default="",
        help="write the annotations without the faults that have only one remedy to this JSON "
        "file; of several data sets, to one file each",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/check_data",
        help="folder for the page check_data.html (default: %(default)s)",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="also decode every picture: find those that cannot be read, and those that are nearly "
        "the same (compressed, scaled, brightened, mirrored or turned copies)",
    )
    command_line.add_config_arguments(parser)
    arguments = parser.parse_args()
    config = command_line.load_config(arguments.cfg_file, arguments.opts)

    from detectron_ext.commands.check_data import check_data

    return int(check_data(config, arguments.output_dir, arguments.fix, decode=arguments.decode) > 0)


if __name__ == "__main__":
    command_line.run(main)
