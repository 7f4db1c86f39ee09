"""How long a net needs each value of its blobs, and freeing what it needs no longer.

A blob of a training step is written in the forward pass and read last in the forward or in the
backward pass. Caffe2 keeps all of them until the next step overwrites them. Here an operator `Free`
follows the last reader. It gives the memory back, and the next tensor takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Collection, NamedTuple, Sequence

from caffe2.python import core

from detectron_ext.modeling.process_sums import ENGINE as GLOO

if TYPE_CHECKING:
    from detectron_ext.modeling.model import DetectionModel


class Lifetime(NamedTuple):
    """One value of a blob, which a net makes.

    Attributes:
        blob: name of the blob.
        first: number of the operator that writes it without reading it.
        last: number of the last operator that reads it or changes it in place.
    """

    blob: str
    first: int
    last: int


def frees_blobs(model: DetectionModel) -> bool:
    """Return whether the training steps of a model free blobs (LIBRA.TRAIN.FREE_BLOBS)."""
    return bool(model.config.LIBRA.TRAIN.FREE_BLOBS) and not model.num_gpus


def lifetimes(operators: Sequence[Any]) -> list[Lifetime]:
    """Return the values that operators make and read, in the order of their first operators.

    Not among them is what comes from outside (an operator reads it before any has written it), and
    what no operator reads: it is made for somebody outside.

    Args:
        operators: operators of a net (OperatorDefs), in the order in which they run. Each writes
            the whole of its outputs, or changes one of its inputs in place.
    """
    from_outside: set[str] = set()
    current: dict[str, Lifetime] = {}
    ended: list[Lifetime] = []
    for number, operator in enumerate(operators):
        for blob in operator.input:
            if blob in current:
                current[blob] = current[blob]._replace(last=number)
            else:
                from_outside.add(blob)
        for blob in operator.output:
            if blob in operator.input:
                continue
            if blob in current:
                ended.append(current[blob])
            current[blob] = Lifetime(blob, number, number)
    found = [*ended, *current.values()]
    read = (life for life in found if life.last > life.first and life.blob not in from_outside)
    return sorted(read, key=lambda life: life.first)


def with_freed_blobs(operators: Sequence[Any], kept: Collection[str]) -> list[list]:
    """Return each operator, in a list with the operator that frees what is not needed after it.

    What Gloo sends and receives is never freed: its operators remember the memory of the first run.

    Args:
        operators: as of `lifetimes`.
        kept: names of the blobs whose last value is read after the net has run.
    """
    last_writers = {blob: number for number, op in enumerate(operators) for blob in op.output}
    sent = {blob for op in operators if op.engine == GLOO for blob in (*op.input, *op.output)}
    steps = [[operator] for operator in operators]
    unneeded: dict[int, list[str]] = {}
    for life in lifetimes(operators):
        is_read_later = life.blob in kept and last_writers[life.blob] <= life.last
        if not is_read_later and life.blob not in sent:
            unneeded.setdefault(life.last, []).append(life.blob)
    for number, blobs in unneeded.items():
        steps[number].append(core.CreateOperator("Free", blobs, blobs))
    return steps
