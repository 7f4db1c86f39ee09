#!/usr/bin/env python
"""Train a model, then test it."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Train the model of a configuration, then test it on TEST.DATASETS. Training resumes from "
        "the newest checkpoint in OUTPUT_DIR.",
        "tools/train_net.py --cfg configs/digits/libra_retinanet_R-36-tiny_256.yaml "
        "SOLVER.MAX_ITER 500 OUTPUT_DIR output/try",
    )
    parser.add_argument("--skip-test", action="store_true", help="do not test after training")
    parser.add_argument(
        "--multi-gpu-testing",
        action="store_true",
        help="accepted for Detectron's scripts, without effect: one device is used for testing",
    )
    command_line.add_processes(parser)
    command_line.add_upstream(parser)
    command_line.add_config_arguments(parser)
    arguments = parser.parse_args()
    processes = command_line.chosen_processes(parser, arguments)
    if command_line.runs_upstream(arguments, "train_net"):
        return
    config = command_line.load_config(arguments.cfg_file, arguments.opts)

    from detectron_ext.commands.train_and_test import train_and_test
    from detectron_ext.engine.process_group import process_group

    with process_group(*processes) as group:
        train_and_test(config, arguments.skip_test, group)


if __name__ == "__main__":
    command_line.run(main)
