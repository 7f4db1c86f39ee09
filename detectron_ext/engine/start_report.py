"""The log's report of what a training took from the weights that it starts from."""

from __future__ import annotations

import logging
from typing import Collection, Iterable, Sequence

from detectron_ext.config.settings import Settings
from detectron_ext.engine.class_rows import class_layers
from detectron_ext.engine.parameters import MOMENTUM
from detectron_ext.engine.start_choice import Choice
from detectron_ext.engine.weights_file import Weights

_LOG = logging.getLogger(__name__)
_FEWEST = 3  # names that a common beginning stands for


def report_choice(
    config: Settings,
    choice: Choice,
    weights: Weights,
    path: str,
    names: Collection[str],
    untrained: Collection[str],
    classes: Sequence[str] | None,
) -> None:
    """Log, each once, what was taken, what starts anew and what was not used.

    Args:
        config: a merged configuration.
        choice: what was taken.
        weights: the content of the file.
        path: the file.
        names: the model's parameters.
        untrained: those of them that the training does not change.
        classes: class names of the training data, background first; None if they are not known.
    """
    if choice.missing:
        missing = shortened(choice.missing, names)
        _LOG.info("%s has no %s: they keep their initial values", path, missing)
    if choice.reshaped:
        _LOG.info(
            "initial values instead of those in %s, whose shapes do not fit: %s",
            path,
            "; ".join(choice.reshaped.values()),
        )
    frozen = [name for name in (*choice.missing, *choice.reshaped) if name in untrained]
    if frozen:
        _LOG.warning(
            "%s keep their initial values and are not trained: use weights that have them, or "
            "lower TRAIN.FREEZE_AT",
            shortened(frozen, names),
        )
    _report_classes(config, choice, weights, path, classes)
    _report_unused(config, weights, path, names)
    _LOG.info("loaded %d parameters from %s", len(choice.values), path)


def _report_classes(
    config: Settings,
    choice: Choice,
    weights: Weights,
    path: str,
    classes: Sequence[str] | None,
) -> None:
    if choice.by_name is not None:
        kept, anew, unused = (", ".join(names) or "none" for names in choice.by_name)
        _LOG.info(
            "classes by name: rows taken of %s; initial values for %s; not used of %s: %s",
            kept,
            anew,
            path,
            unused,
        )
        return
    prefixes = tuple(layer.prefix for layer in class_layers(config))
    by_number = [name for name in choice.values if name.startswith(prefixes)]
    if by_number and classes is not None and weights.classes != list(classes):
        theirs = "not stored" if weights.classes is None else ", ".join(weights.classes[1:])
        _LOG.warning(
            "the classes of %s are %s, and those of the training data are %s: classes of the same "
            "number share their rows; LIBRA.TRAIN.LOAD matching_names goes by the names",
            path,
            theirs,
            ", ".join(classes[1:]),
        )


def _report_unused(config: Settings, weights: Weights, path: str, names: Collection[str]) -> None:
    blobs = weights.blobs
    momenta = [name for name in blobs if name not in names and name.endswith(MOMENTUM)]
    others = [name for name in blobs if name not in names and not name.endswith(MOMENTUM)]
    if momenta:
        _LOG.info("%s: %d momenta not used; only a resumed run needs them", path, len(momenta))
    if others:
        kept = config.LIBRA.TRAIN.LOAD == "strict"
        where = ", but kept in the weights that are saved" if kept else ""
        _LOG.info("%s: not used%s: %s", path, where, shortened(others, blobs))


def shortened(names: Sequence[str], among: Iterable[str]) -> str:
    """Return names for a message; a beginning such as ``bfp_*`` stands for all that have it.

    Args:
        names: some of ``among``.
        among: all names. A beginning is only used if every one of them that has it is meant.
    """
    others = set(among) - set(names)
    shown: dict[str, None] = {}
    for name in names:
        shown[_shared_beginning(name, names, others)] = None
    return ", ".join(shown)


def _shared_beginning(name: str, names: Sequence[str], others: Collection[str]) -> str:
    for end, character in enumerate(name, start=1):
        beginning = name[:end]
        if character == "_" and not any(other.startswith(beginning) for other in others):
            count = sum(each.startswith(beginning) for each in names)
            return f"{beginning}* ({count})" if count >= _FEWEST else name
    return name
