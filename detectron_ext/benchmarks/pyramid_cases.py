"""The balanced feature pyramid at the size of RetinaNet's P3 to P7 of an 800 x 1344 image."""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np
from caffe2.python import core

from detectron_ext import ops
from detectron_ext.benchmarks import pytorch_formulas as eager
from detectron_ext.benchmarks.operator_case import OperatorCase, normal
from detectron_ext.ops.frontend import Blob

Inputs = Dict[str, np.ndarray]

_CHANNELS = 256
_SIZES = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
_REFINE_LEVEL = 1  # P4
_PARTS = ("theta", "phi", "g", "out")


def pyramid_cases(rng: np.random.Generator) -> list[OperatorCase]:
    """Return the cases of the pyramid's operators, alone and together."""
    levels = {f"f{i}": normal(rng, 1, _CHANNELS, *size) for i, size in enumerate(_SIZES)}
    balanced = {"balanced": normal(rng, 1, _CHANNELS, *_SIZES[_REFINE_LEVEL])}
    return [
        _gather_case(levels),
        _scatter_case(levels, balanced),
        _pyramid_case("Gather + Scatter", levels, {}),
        _attention_case(rng),
        _pyramid_case("Gather + non-local + Scatter", levels, _weights(rng)),
    ]


def _describe() -> str:
    return f"{_CHANNELS} channels, P3 to P7 of 800x1344, refine P4"


def _gather(net: core.Net, levels: Sequence[Blob]) -> core.BlobReference:
    return ops.balanced_pyramid_gather(net, levels, "gathered", refine_level=_REFINE_LEVEL)


def _scatter(net: core.Net, balanced: Blob, levels: Sequence[Blob]) -> list:
    outputs = [f"out{i}" for i in range(len(levels))]
    return list(
        ops.balanced_pyramid_scatter(net, balanced, levels, outputs, refine_level=_REFINE_LEVEL)
    )


def _gather_case(levels: Inputs) -> OperatorCase:
    names = tuple(levels)
    return OperatorCase(
        "BalancedPyramidGather",
        _describe(),
        levels,
        lambda net: [_gather(net, names)],
        lambda t: [eager.balanced_pyramid_gather([t[n] for n in names], _REFINE_LEVEL)],
        names,
    )


def _scatter_case(levels: Inputs, balanced: Inputs) -> OperatorCase:
    names = tuple(levels)
    return OperatorCase(
        "BalancedPyramidScatter",
        _describe(),
        {**balanced, **levels},
        lambda net: _scatter(net, "balanced", names),
        lambda t: eager.balanced_pyramid_scatter(
            t["balanced"], [t[n] for n in names], _REFINE_LEVEL
        ),
        ("balanced", *names),
    )


def _pyramid_case(name: str, levels: Inputs, weights: Inputs) -> OperatorCase:
    """Return a case of the whole pyramid. With weights, the non-local block refines it."""
    names = tuple(levels)

    def add(net):
        gathered = _gather(net, names)
        return _scatter(net, _non_local(net, gathered) if weights else gathered, names)

    def formula(tensors):
        inputs = [tensors[n] for n in names]
        refined = eager.balanced_pyramid_gather(inputs, _REFINE_LEVEL)
        if weights:
            parts = {part: (tensors[f"{part}_w"], tensors[f"{part}_b"]) for part in _PARTS}
            refined = eager.non_local_block(refined, parts)
        return eager.balanced_pyramid_scatter(refined, inputs, _REFINE_LEVEL)

    inputs = {**levels, **weights}
    # The gradient of phi_b is 0. Eager PyTorch gives rounding errors, which cannot be compared.
    differentiable = tuple(name for name in inputs if name != "phi_b")
    return OperatorCase(name, _describe(), inputs, add, formula, differentiable)


def _weights(rng: np.random.Generator) -> Inputs:
    weights = {}
    for part in _PARTS:
        weights[f"{part}_w"] = 0.01 * normal(rng, _CHANNELS, _CHANNELS, 1, 1)
        weights[f"{part}_b"] = 0.01 * normal(rng, _CHANNELS)
    return weights


def _non_local(net: core.Net, x: Blob) -> core.BlobReference:
    weights: dict[str, Any] = {part: (f"{part}_w", f"{part}_b") for part in _PARTS}
    return ops.non_local_block(net, x, "refined", **weights)


def _attention_case(rng: np.random.Generator) -> OperatorCase:
    height, width = _SIZES[_REFINE_LEVEL]
    names = ("theta", "phi", "g")
    inputs = {name: 0.1 * normal(rng, 1, _CHANNELS, height, width) for name in names}
    return OperatorCase(
        "EmbeddedGaussianAttention",
        f"{_CHANNELS} channels, HW = {height * width:,}",
        inputs,
        lambda net: [ops.embedded_gaussian_attention(net, *names, "attended")],
        lambda t: [eager.embedded_gaussian_attention(*(t[n] for n in names))],
        names,
    )
