#!/usr/bin/env python
"""Repeat a training step whose loss or gradients were not finite."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Repeat a training step whose loss or gradients were not finite, with the weights that it "
        "had. Print its images, the first blob that is not finite, and each loss. Nothing is "
        "written.",
        "tools/replay_minibatch.py --cfg my.yaml output/train/my_train/retinanet/not_finite.pkl",
    )
    parser.add_argument(
        "file", metavar="FILE", help="the file not_finite.pkl that the training wrote"
    )
    command_line.add_config_arguments(parser)
    arguments = parser.parse_args()
    config = command_line.load_config(arguments.cfg_file, arguments.opts)

    from detectron_ext.commands.replay import replay

    replay(config, arguments.file)


if __name__ == "__main__":
    command_line.run(main)
