#!/usr/bin/env python
"""Run a sweep: variants x seeds x sizes, each a training run of its own."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Run every variant, seed and size of a sweep with tools/train_net.py. What is done is "
        "skipped and what was begun is resumed: the same command goes on where it was stopped.",
        "tools/sweep.py configs/sweeps/retinanet_ablation.yaml --jobs 2\n"
        "tools/sweep.py configs/sweeps/retinanet_ablation.yaml --dry-run",
    )
    parser.add_argument("spec", help="YAML file, see configs/sweeps/")
    parser.add_argument("--results", default="output/sweeps", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each (default: 1)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only runs whose folder's name holds this text"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would run")
    parser.add_argument(
        "--report",
        metavar="FILE.md",
        help="run nothing; write what is done into this page and JSON beside it",
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
