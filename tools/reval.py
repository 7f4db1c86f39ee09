#!/usr/bin/env python
"""Score saved detections or proposals, and merge the parts of a test."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Score detections that were saved, without running a model: any COCO results file, "
        "Detectron's detections.pkl, or the folder of a tested run. Several files are merged. The "
        "parts that tools/test_net.py --range writes are merged and scored together; their folder "
        "may be named instead of the files. Proposals (rpn_proposals.pkl and its parts) are scored "
        "by their average recall.",
        "tools/reval.py --dataset my_val --cfg my_cells.yaml output/my_cells\n"
        "tools/reval.py --dataset bccd_val results.json",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files or folders to score")
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="catalog name of the data set"
    )
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        default="",
        help="COCO annotation file (default: that of the data set in the catalog)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/reval",
        help="folder for the merged detections and the scores (default: %(default)s)",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="if parts are missing, score the images of the others",
    )
    command_line.add_config_file(
        parser,
        False,
        "YAML configuration file whose DATASETS_EXTRA has the data set, and whose "
        "LIBRA.EVALUATION may add an AP",
    )
    arguments = parser.parse_args()

    from detectron_ext import config as configuration
    from detectron_ext.commands.reval import reval

    reval(
        configuration.load(arguments.cfg_file),
        arguments.dataset,
        arguments.paths,
        arguments.output_dir,
        annotations=arguments.annotations,
        partial=arguments.partial,
    )


if __name__ == "__main__":
    command_line.run(main)
