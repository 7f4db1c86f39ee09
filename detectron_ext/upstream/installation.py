"""Installing the adapter, and taking it out again."""

from __future__ import annotations

from detectron_ext.upstream.checkout import import_all
from detectron_ext.upstream.patches import AppliedPatches, Patch

# Where the CPU's patches go; a package that they lack is better named at once.
_USED_LATER = ("detectron.core.test_engine", "detectron.utils.train")


class _State:
    """What is installed in this process; upstream's configuration and modules are global too."""

    applied: AppliedPatches | None = None


def install(cpu: bool | None = None) -> None:
    """Install the Libra parts into the Detectron that Python finds; later calls do nothing.

    Call it before a configuration is merged. Nothing changes in upstream's nets as long as the
    LIBRA node is left alone, but for the device where that is the CPU.

    Args:
        cpu: run on the CPU, or leave the devices as upstream sets them; None decides by what the
            machine and NUM_GPUS say.

    Raises:
        UserError: Detectron cannot be imported, or it is not one that this knows. Nothing is
            changed then.
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
    """Put back every attribute that `install` replaced, and take our nodes out of ``cfg``."""
    if _State.applied is None:
        return
    from detectron_ext.upstream import cfg_node, cpu_mode

    cpu_mode.turn_off()
    _State.applied.restore()
    _State.applied = None
    cfg_node.remove_nodes(cfg_node.upstream_cfg())


def is_installed() -> bool:
    """Whether the adapter is installed in this process."""
    return _State.applied is not None


def _all_patches(cpu: bool | None) -> list[Patch]:
    # Caffe2 and the graph functions are imported here, not with the package.
    from detectron_ext.upstream import (
        builder,
        cfg_node,
        cpu_mode,
        datasets,
        fast_rcnn,
        model_methods,
        pyramid,
        python_operators,
        retinanet,
        rpn,
        shims,
    )

    groups = [
        shims, cfg_node, datasets, builder, model_methods, pyramid, retinanet, fast_rcnn, rpn,
        python_operators,
    ]  # fmt: skip
    if cpu is not False:
        groups.append(cpu_mode)
    return [patch for group in groups for patch in group.patches()]
