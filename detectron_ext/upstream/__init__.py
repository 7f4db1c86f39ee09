"""Installs the Libra parts into a checkout of upstream Detectron (facebookresearch/Detectron).

    from detectron_ext import upstream
    upstream.install()      # before a configuration is merged and a model is built

After that, upstream's ``cfg`` has a LIBRA node. Upstream's model builder, heads, samplers and
losses use the parts that the node asks for. On a machine without a GPU everything runs on the CPU.
``uninstall()`` undoes all of it.

`patches` replaces attributes of upstream's modules. Before that it checks that each function has
the parameters that the adapter was written for. Every other module here holds one group of
replacements. Nothing here imports Caffe2 or upstream before ``install`` is called.
"""

from __future__ import annotations

from detectron_ext.upstream.installation import install, is_installed, uninstall

__all__ = ["install", "is_installed", "uninstall"]
