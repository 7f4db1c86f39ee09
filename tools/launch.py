#!/usr/bin/env python
"""Train one model in several processes of this machine."""

from __future__ import annotations

import sys

from detectron_ext import command_line


def main() -> int:
    parser = command_line.make_parser(
        "Start several processes of tools/train_net.py on this machine that train one model "
        "together. Each of them reads TRAIN.IMS_PER_BATCH images an iteration. The processors are "
        "divided among them, unless OMP_NUM_THREADS or LIBRA.THREADS gives the threads of each.",
        "tools/launch.py -n 2 -- tools/train_net.py --cfg my_cells.yaml",
    )
    parser.add_argument(
        "-n", dest="count", type=int, required=True, metavar="N", help="number of processes"
    )
    parser.usage = f"{parser.prog} -n N -- TRAIN_NET --cfg FILE [KEY VALUE ...]"
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    arguments = parser.parse_args(given[:end])
    command = given[end + 1 :]
    if not command:
        parser.error("the command to start must follow --")

    from detectron_ext.commands.launch import launch

    return launch(arguments.count, command)


if __name__ == "__main__":
    command_line.run(main)
