"""Installs and uninstalls the adapter."""

from __future__ import annotations

from detectron_ext.upstream.checkout import import_all
from detectron_ext.upstream.patches import AppliedPatches, Patch

# The patches for the CPU change these modules later. Importing them now finds missing packages now.
_USED_LATER = ("detectron.core.test_engine", "detectron.utils.train")


class _State:
    """What is installed in this process. Upstream's configuration and modules are global, too."""

    applied: AppliedPatches | None = None


def install(cpu: bool | None = None) -> None:
    """Install the Libra parts into the Detectron that Python finds. Later calls do nothing.

    Call it before a configuration is merged, and before any thread uses upstream. As long as the
    LIBRA node has its defaults, upstream builds the same nets as before. Exception: on the CPU the
    devices change.

    Args:
        cpu: True runs on the CPU. False keeps the devices that upstream sets. None decides by the
            GPUs of the machine and by NUM_GPUS.

    Raises:
        UserError: Detectron cannot be imported, or the adapter does not know this checkout. In
            both cases nothing is changed.
    """
    if _State.applied is not None:
        return
    patches = _all_patches(cpu)
    import_all(dict.fromkeys([*(patch.module for patch in patches), *_USED_LATER]))
    # Importing the operators loads their libraries into Caffe2.
    from detectron_ext import ops  # noqa: F401
    from detectron_ext.upstream import cfg_node, cpu_mode

    applied = AppliedPatches()
    applied.apply(patches)
    _State.applied = applied
    cfg_node.add_nodes(cfg_node.upstream_cfg())
    if cpu or (cpu is None and not cpu_mode.machine_has_gpu()):
        try:
            cpu_mode.turn_on()
        except BaseException:
            uninstall()
            raise


def uninstall() -> None:
    """Restore every attribute that `install` replaced, and remove our nodes from ``cfg``."""
    if _State.applied is None:
        return
    from detectron_ext.upstream import cfg_node, cpu_mode

    cpu_mode.turn_off()
    _State.applied.restore()
    _State.applied = None
    cfg_node.remove_nodes(cfg_node.upstream_cfg())


def is_installed() -> bool:
    """Return whether the adapter is installed in this process."""
    return _State.applied is not None


def _all_patches(cpu: bool | None) -> list[Patch]:
    # These modules import Caffe2, which importing the package must not do.
    from detectron_ext.upstream import (
        builder,
        cfg_node,
        cpu_mode,
        datasets,
        fast_rcnn,
        model_methods,
        optimizer,
        pyramid,
        python_operators,
        retinanet,
        rpn,
        shims,
    )

    groups = [
        shims, cfg_node, datasets, builder, model_methods, pyramid, retinanet, fast_rcnn, rpn,
        optimizer, python_operators,
    ]  # fmt: skip
    if cpu is not False:
        groups.append(cpu_mode)
    return [patch for group in groups for patch in group.patches()]
