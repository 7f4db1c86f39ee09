#!/usr/bin/env python
"""Export a trained model as net.pb and init_net.pb for Caffe2's predictor."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Export the trained model TEST.WEIGHTS for Caffe2's predictor: net.pb (the net, with the "
        "decoding of the boxes and non-maximum suppression), init_net.pb (its weights) and "
        "net.json (how to prepare an image, and the class names).",
        "tools/convert_pkl_to_pb.py --cfg configs/bccd/libra_retinanet_R-36-tiny_256.yaml "
        "--out_dir output/pb --size 480 640 --stock-ops TEST.WEIGHTS output/model_final.pkl",
    )
    command_line.add_config_file(parser)
    parser.add_argument(
        "--out_dir", required=True, metavar="FOLDER", help="folder for the three files"
    )
    parser.add_argument(
        "--net_name",
        metavar="NAME",
        default="detectron",
        help="name of the net (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size in pixels of the images that the net is for; required for RetinaNet and "
        "--stock-ops",
    )
    parser.add_argument(
        "--stock-ops",
        action="store_true",
        help="replace this package's operators by Caffe2's own, so that its library is not needed",
    )
    command_line.add_overrides(parser)
    arguments = parser.parse_args()
    if arguments.size and min(arguments.size) < 1:
        parser.error("--size needs numbers above 0")
    config = command_line.load_config(arguments.cfg_file, [*arguments.opts, "NUM_GPUS", 0])

    from detectron_ext.deployment.export import export_model

    about = export_model(
        config,
        config.TEST.WEIGHTS,
        arguments.out_dir,
        image_size=tuple(arguments.size) if arguments.size else None,
        keep_custom=not arguments.stock_ops,
        name=arguments.net_name,
    )
    shape = about.get("data_shape")
    print(f"written: {arguments.out_dir}/net.pb, init_net.pb, net.json")
    print(f"data: {' x '.join(map(str, shape)) if shape else 'any size'}")


if __name__ == "__main__":
    command_line.run(main)
