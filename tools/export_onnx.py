#!/usr/bin/env python
"""Export a trained model as an ONNX model, from the image to the boxes."""

from __future__ import annotations

from detectron_ext import command_line


def main() -> None:
    parser = command_line.make_parser(
        "Export the trained model TEST.WEIGHTS as one ONNX file, which onnxruntime and other "
        "runtimes execute. Mean subtraction, padding, decoding and non-maximum suppression are "
        "part of it.",
        "tools/export_onnx.py --cfg configs/bccd/libra_retinanet_R-36-tiny_256.yaml "
        "--out output/model.onnx TEST.WEIGHTS output/model_final.pkl",
    )
    command_line.add_config_file(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="name of the ONNX file")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size in pixels of all images, before scaling (default: images of any size)",
    )
    parser.add_argument(
        "--input-type",
        choices=("float32", "uint8"),
        default="float32",
        help="type of the input image; with uint8 its pixels are rounded when it is scaled "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="IMAGE",
        help="afterwards, run the network and the model on this image, and print how much their "
        "detections and their times differ; may be given several times",
    )
    command_line.add_overrides(parser)
    arguments = parser.parse_args()
    if arguments.size and min(arguments.size) < 1:
        parser.error("--size needs numbers above 0")

    from detectron_ext.optional_packages import import_optional

    import_optional("onnx", "exporting to ONNX")
    config = command_line.load_config(arguments.cfg_file, [*arguments.opts, "NUM_GPUS", 0])

    images = {}
    if arguments.check:  # nothing is written if they cannot be read
        import_optional("onnxruntime", "checking an ONNX model")

        from detectron_ext.data.transforms import read_file

        deep = config.LIBRA.DATA.DEEP_IMAGES
        images = {name: read_file(name, deep=deep) for name in arguments.check}

    from detectron_ext.deployment.to_onnx.export import export_onnx

    size = tuple(arguments.size) if arguments.size else None
    about = export_onnx(config, config.TEST.WEIGHTS, arguments.out, size, arguments.input_type)
    shown = " x ".join(map(str, about.get("image_size", ["any size"])))
    print(f"written: {arguments.out}, for images of {shown}")
    if images:
        from detectron_ext.deployment.onnx_check import check_onnx

        check_onnx(config, config.TEST.WEIGHTS, arguments.out, images)


if __name__ == "__main__":
    command_line.run(main)
