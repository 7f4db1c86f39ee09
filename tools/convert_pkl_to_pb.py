#!/usr/bin/env python
"""Write a trained model as net.pb and init_net.pb, which Caffe2 runs without this package."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Export a trained model for Caffe2's predictor: net.pb (the net, including decoding and "
        "non-maximum suppression), init_net.pb (its weights) and net.json (a description of the "
        "inputs).",
        "tools/convert_pkl_to_pb.py --cfg configs/bccd/libra_retinanet_R-36-tiny_256.yaml "
        "--out_dir output/pb --size 480 640 --stock-ops TEST.WEIGHTS output/model_final.pkl",
    )
    parser.add_argument("--cfg", dest="cfg_file", required=True, help="YAML configuration file")
    parser.add_argument(
        "--out_dir", required=True, help="folder that the three files are written to"
    )
    parser.add_argument(
        "--net_name", default="detectron", help="name of the net (default: %(default)s)"
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
