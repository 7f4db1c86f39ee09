#!/usr/bin/env python
"""Compare tested runs: a table of differences with confidence intervals."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Compare the tests of trained models: runs of this project or of Detectron that were "
        "tested on one data set. Several runs after --baseline or --candidate are one model "
        "trained with several seeds. Repeat --candidate for each model to compare with the "
        "baseline. The tables are printed, and written to the output folder as Markdown, CSV, JSON "
        "and HTML.",
        "tools/compare_runs.py --baseline output/plain --candidate output/libra\n"
        "tools/compare_runs.py --baseline a/seed1 a/seed2 --candidate b/seed1 b/seed2 "
        "--names plain libra --paired --primary AP",
    )
    parser.add_argument(
        "--baseline", nargs="+", required=True, metavar="RUN", help="output folders of the baseline"
    )
    parser.add_argument(
        "--candidate",
        nargs="+",
        required=True,
        action="append",
        metavar="RUN",
        help="output folders of a model to compare",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names for the tables: of the baseline, then of each candidate (default: the folders' "
        "names)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="FOLDER",
        default="output/comparison",
        help="folder for the comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        default="",
        help="catalog name of the data set, if a run was tested on several",
    )
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        default="",
        help="COCO annotation file (default: that of the data set in the catalog)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        default=0.5,
        help="detections with this score or more count for precision and recall (default: 0.5)",
    )
    parser.add_argument(
        "--paired",
        action="store_true",
        help="run number k of every side has the same seed and data: the interval over trainings "
        "is a paired t interval (default: Welch's, unpaired)",
    )
    parser.add_argument(
        "--primary",
        metavar="METRIC",
        default="",
        help="the metric that decides, chosen before the runs are compared; a name of the column "
        "metric of comparison.csv (default: AP)",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        metavar="N",
        default=1000,
        help="number of bootstrap resamples for the intervals over images (default: 1000)",
    )
    command_line.add_config_file(
        parser, False, "YAML configuration file whose DATASETS_EXTRA has the data set"
    )
    arguments = parser.parse_args()
    if arguments.resamples < 1:
        parser.error("--resamples must be at least 1")
    if not 0 <= arguments.threshold <= 1:
        parser.error("--threshold must be a score from 0 to 1")

    from detectron_ext import config as configuration
    from detectron_ext.commands.compare import compare_runs

    tables = compare_runs(
        configuration.load(arguments.cfg_file),
        arguments.baseline,
        arguments.candidate,
        arguments.output_dir,
        names=arguments.names,
        dataset=arguments.dataset,
        annotations=arguments.annotations,
        threshold=arguments.threshold,
        num_resamples=arguments.resamples,
        primary=arguments.primary,
        is_paired=arguments.paired,
    )
    print(tables, end="")


if __name__ == "__main__":
    command_line.run(main)
