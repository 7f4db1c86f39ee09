#!/usr/bin/env python
"""Run a sweep: train and test all variants, seeds, image sizes and data sets."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Train and test every variant, seed, image size and data set of a sweep with "
        "tools/train_net.py. "
        "Finished runs are skipped and runs that were stopped are resumed, so the same command "
        "continues a sweep.",
        "tools/sweep.py configs/sweeps/retinanet_ablation.yaml --jobs 2\n"
        "tools/sweep.py configs/sweeps/retinanet_ablation.yaml --dry-run",
    )
    parser.add_argument(
        "spec",
        metavar="SPEC",
        help="YAML file that describes the sweep, such as those in configs/sweeps/",
    )
    parser.add_argument(
        "--results",
        metavar="FOLDER",
        default="output/sweeps",
        help="folder for the runs (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=1,
        help="number of runs at the same time (default: 1)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", default=1, help="CPU threads of each run (default: 1)"
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only runs whose folder name contains this text"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only print the state and the command of each run"
    )
    parser.add_argument(
        "--report",
        metavar="FILE.md",
        help="train nothing; write the results of the finished runs into this page, and as JSON "
        "into a folder of its name",
    )
    arguments = parser.parse_args()
    if min(arguments.jobs, arguments.threads) < 1:
        parser.error("--jobs and --threads must be at least 1")

    from detectron_ext.commands.sweep import report, sweep

    if arguments.report:
        report(arguments.spec, arguments.results, arguments.report)
        return
    sweep(
        arguments.spec,
        arguments.results,
        jobs=arguments.jobs,
        threads=arguments.threads,
        only=arguments.only,
        dry_run=arguments.dry_run,
    )


if __name__ == "__main__":
    command_line.run(main)
