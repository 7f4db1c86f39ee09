"""Builds upstream's nets, with the adapter or without it, and writes their serialised form.

python net_bytes.py CHECKOUT FOLDER plain|installed|cpu CONFIG...

"plain" does not use this project. "installed" keeps upstream's devices. "cpu" runs on the CPU.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import yaml


def main(checkout: str, folder: str, mode: str, *configs: str) -> None:
    sys.path.insert(0, checkout)
    if mode == "plain":
        np.asscalar = lambda array: (
            array.item()
        )  # Caffe2 needs it, and newer versions of numpy have removed it
    else:
        from detectron_ext import upstream

        upstream.install(cpu=mode == "cpu")
    import detectron.utils.c2 as c2_utils
    from detectron.core import config as upstream_config

    c2_utils.import_detectron_ops()
    initial = copy.deepcopy(upstream_config.cfg)
    for path in configs:
        upstream_config.cfg.immutable(False)
        upstream_config.merge_cfg_from_cfg(copy.deepcopy(initial))
        _merge(upstream_config, Path(path))
        for train in (True, False):
            name = f"{Path(path).stem}_{'train' if train else 'test'}"
            Path(folder, name).write_bytes(_build(upstream_config.cfg, train, mode == "cpu"))


def _merge(upstream_config, path: Path) -> None:
    from detectron.utils.collections import AttrDict

    tree = AttrDict(yaml.safe_load(path.read_text()))
    upstream_config.merge_cfg_from_cfg(tree)
    # One replica, because averaging over several needs the GPUs of the machine.
    upstream_config.merge_cfg_from_list(["NUM_GPUS", 1])
    upstream_config.assert_and_infer_cfg(cache_urls=False)


def _build(cfg, train: bool, on_cpu: bool) -> bytes:
    from caffe2.python import workspace
    from detectron.modeling import model_builder

    workspace.ResetWorkspace()
    model = model_builder.create(cfg.MODEL.TYPE, train=train)
    nets = [model.net.Proto(), model.param_init_net.Proto()]
    if on_cpu:
        for net in nets:
            _restore_devices(net, cfg)
    return b"".join(net.SerializeToString(deterministic=True) for net in nets)


def _restore_devices(net, cfg) -> None:
    """Undo the only two differences that a net built for the CPU may have."""
    from caffe2.proto import caffe2_pb2

    if net.type == "simple":
        net.type = "dag"
    for operator in net.op:
        if operator.HasField("device_option"):
            assert operator.device_option.device_type == caffe2_pb2.CPU
            operator.device_option.device_type = caffe2_pb2.CUDA


if __name__ == "__main__":
    main(*sys.argv[1:])
