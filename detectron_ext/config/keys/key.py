"""The entry of one configuration key, and sections that group entries.

    SOLVER = Section(
        "The optimizer.",
        MAX_ITER=Key(40000, "Iterations to train.", at_least(0)),
    )

An entry holds every fact about its key. Validation, the inference of values, warnings of keys
without effect, the adapter's refusals, the typed view of a configuration (`config.settings`) and
docs/configuration.md are all derived from it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Tuple, Union

from detectron_ext.config.model_kind import ModelKind
from detectron_ext.config.rules import Choice, RegisteredName, Rule


@dataclass(frozen=True)
class When:
    """A detector that uses a key only while another key is True.

    Attributes:
        kind: the detector.
        switch: the dotted name of the other key.
    """

    kind: ModelKind
    switch: str


@dataclass(frozen=True)
class NotUpstream:
    """A key that the adapter for an upstream checkout cannot apply, and therefore refuses.

    Attributes:
        reason: why, for the message.
        only_in_training: whether the key is allowed in tests, whose results do not depend on it.
    """

    reason: str
    only_in_training: bool = False


@dataclass(frozen=True)
class Formerly:
    """The name that a key had in earlier versions of Detectron.

    Attributes:
        name: the old dotted name.
        advice: how the value has to be changed; empty if it may stay as it is.
    """

    name: str
    advice: str = ""


@dataclass(frozen=True)
class Inferred:
    """A value that a key takes if another key is True, whatever it was given.

    Attributes:
        value: the value.
        if_any: dotted names of the other keys; one of them that is True suffices.
    """

    value: Any
    if_any: tuple[str, ...]


Users = Tuple[Union[ModelKind, When], ...]

# Detectors that use a key, for ``used_by``.
ALL_MODELS: Users = tuple(ModelKind)
RETINANET: Users = (ModelKind.RETINANET,)
FAST_RCNN: Users = (ModelKind.FAST_RCNN,)
WITH_BOX_HEAD: Users = (ModelKind.FASTER_RCNN, ModelKind.FAST_RCNN)
WITH_RPN: Users = (ModelKind.FASTER_RCNN, ModelKind.RPN_ALONE)
WITH_ANCHORS: Users = (ModelKind.RETINANET, *WITH_RPN)
WITH_REGIONS: Users = (*WITH_BOX_HEAD, ModelKind.RPN_ALONE)
WITH_DETECTIONS: Users = (ModelKind.RETINANET, *WITH_BOX_HEAD)
# The key is read by upstream Detectron alone. It is accepted, stored and checked here.
UPSTREAM_ONLY: Users = ()


class Key:
    """One key.

    Attributes:
        default: the value if none is given. Its type is the key's type: bool, int, float, str,
            list, tuple or numpy array.
        description: what the key does, in whole sentences; Markdown.
        rules: what a value must be, besides its type.
        used_by: the detectors that use the key.
        upstream: why the adapter for upstream Detectron refuses the key, or None if it applies it.
        affects_weights: whether the trained weights depend on the key, so that a run with another
            value cannot continue from them.
        formerly: the old name of the key.
        inferred: the value that the key takes if other keys are True.
        is_path: whether the value is the path of a file or folder, or a sequence of such paths.

    If ``used_by``, ``upstream`` or ``affects_weights`` is not given, it is that of the section; see
    `Section`.
    """

    def __init__(
        self,
        default: Any,
        description: str,
        *rules: Rule,
        used_by: Users | None = None,
        upstream: NotUpstream | None = None,
        affects_weights: bool | None = None,
        formerly: Formerly | None = None,
        inferred: Inferred | None = None,
        is_path: bool = False,
    ) -> None:
        self.default = default
        self.description = description
        self.rules = rules
        self.formerly = formerly
        self.inferred = inferred
        self.is_path = is_path
        self.upstream = upstream
        self._used_by = used_by
        self._affects_weights = affects_weights

    @property
    def used_by(self) -> Users:
        return ALL_MODELS if self._used_by is None else self._used_by

    @property
    def affects_weights(self) -> bool:
        return bool(self._affects_weights)

    @property
    def choices(self) -> tuple:
        """The allowed values if they are listed or registered, otherwise ()."""
        choosing = (rule for rule in self.rules if isinstance(rule, (Choice, RegisteredName)))
        return next((rule.choices for rule in choosing), ())

    def inherit(self, section: Section) -> Key:
        """Return a copy that takes from a section what the key itself does not give."""
        return Key(
            self.default,
            self.description,
            *self.rules,
            used_by=section.used_by if self._used_by is None else self._used_by,
            upstream=self.upstream or section.upstream,
            affects_weights=(
                section.affects_weights if self._affects_weights is None else self._affects_weights
            ),
            formerly=self.formerly,
            inferred=self.inferred,
            is_path=self.is_path,
        )


class Section:
    """A group of keys and of further sections.

    Attributes:
        description: what the keys are about, in whole sentences; Markdown.
        entries: the keys and sections by name, in the order of the documentation. They are the
            constructor's further arguments; ``shared`` holds those that several sections have.
        used_by, upstream, affects_weights: as of `Key`, for the keys in the section that do not
            give their own; None if the section gives none.
        free_form: whether the user invents the names of the keys.
    """

    def __init__(
        self,
        description: str,
        shared: Mapping[str, Key] | None = None,
        *,
        used_by: Users | None = None,
        upstream: NotUpstream | None = None,
        affects_weights: bool | None = None,
        free_form: bool = False,
        **entries: Key | Section,
    ) -> None:
        self.description = description
        self.entries: dict[str, Key | Section] = {**(shared or {}), **entries}
        self.used_by = used_by
        self.upstream = upstream
        self.affects_weights = affects_weights
        self.free_form = free_form

    def defaults(self) -> dict:
        """Return a fresh nested dict of the defaults of all keys."""
        return {
            name: entry.defaults() if isinstance(entry, Section) else copy.deepcopy(entry.default)
            for name, entry in self.entries.items()
        }

    def keys(self, prefix: str = "") -> Iterator[tuple[str, Key]]:
        """Yield (dotted name, key) of all keys, each with what it inherits."""
        for name, entry in self.entries.items():
            if isinstance(entry, Key):
                yield prefix + name, entry.inherit(self)
            else:
                for inner, key in entry.keys(f"{prefix}{name}."):
                    yield inner, key.inherit(self)

    def sections(self, prefix: str = "") -> Iterator[tuple[str, Section]]:
        """Yield (dotted name, section) of all sections inside, outer ones first."""
        for name, entry in self.entries.items():
            if isinstance(entry, Section):
                yield prefix + name, entry
                yield from entry.sections(f"{prefix}{name}.")
