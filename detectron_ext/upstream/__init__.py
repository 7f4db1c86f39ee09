"""Installs the Libra parts into a checkout of upstream Detectron (facebookresearch/Detectron).

    from detectron_ext import upstream
    upstream.install()      # before a configuration is merged and a model is built

From then on upstream's ``cfg`` has a LIBRA node, and its model builder, heads, samplers and losses
use the parts that the node asks for; on a machine without a GPU everything runs on the CPU.
``uninstall()`` takes all of it back.

How: `patches` replaces attributes of upstream's modules after checking that each takes the
parameters this was written for; every other module here holds one group of replacements. Nothing
of this imports Caffe2 or upstream before ``install`` is called.
"""

from __future__ import annotations

from detectron_ext.upstream.installation import install, is_installed, uninstall

__all__ = ["install", "is_installed", "uninstall"]
