"""Writes docs/configuration.md from the table of keys and the table of environment variables."""

from __future__ import annotations

import textwrap
from typing import Any, Iterable, Sequence

import numpy as np

from detectron_ext import environment
from detectron_ext.config.dataset_entry import FIELDS
from detectron_ext.config.keys import KEYS, ROOT, SECTIONS
from detectron_ext.config.keys.key import ALL_MODELS, UPSTREAM_ONLY, Key, NotUpstream, Users, When
from detectron_ext.config.model_kind import ModelKind
from detectron_ext.config.rules import RegisteredName, Rule

_INTRODUCTION = """\
<!-- Written by tools/document_config.py from detectron_ext/config/keys and
detectron_ext/environment.py; do not edit. -->

# Configuration

A configuration is a YAML file in Detectron's format. `tools/train_net.py --cfg FILE KEY VALUE ...`
merges three layers: the defaults below, the file, and the KEY VALUE pairs. Later layers win.

```yaml
_BASE_: configs/bccd/retinanet_R-36-tiny_256.yaml
TRAIN:
  MAX_SIZE: 512
LIBRA:
  BFP: {ON: True}
```

    .venv/bin/python tools/train_net.py --cfg my.yaml SOLVER.MAX_ITER 500

- `_BASE_` names another file, relative to this one, that is merged first. That file may have a
  `_BASE_`, too.
- A default fixes the type of its key. An integer may stand for a float, a list for a tuple and a
  tuple for a list, and any scalar for a string. A bool never stands for a number, nor a number for
  a bool.
- In keys that name files or folders, `~` stands for the home folder and `$NAME` for an environment
  variable.
- An unknown key, a wrong type or a value that is not allowed ends the run with one line that names
  the key. For an unknown key the line also names the nearest one.
- In Python, `detectron_ext.config.load("my.yaml", ["SOLVER.MAX_ITER", 500])` returns the same
  configuration, which is read-only.

"Used by" names the detectors that a key has an effect on: RetinaNet, Faster R-CNN, Fast R-CNN (its
proposals are read from files) or an RPN-only model (`MODEL.RPN_ONLY`). If a section has no such
column or sentence, its keys have an effect on all detectors. "Refused under upstream Detectron"
means: the key must keep its default if the parts of this project run in a checkout of Detectron.

Contents: [your own data sets](#your-own-data-sets) |
[LIBRA](#libra-what-this-project-adds) |
[Detectron's keys](#detectrons-keys) |
[keys that only upstream Detectron reads](#keys-that-only-upstream-detectron-reads) |
[renamed keys](#renamed-keys) |
[continuing a run](#continuing-a-run-with-other-values) |
[environment variables](#environment-variables)
"""

_DATASETS = """\
## Your own data sets

`DATASETS_EXTRA` adds data sets. With COCO-format annotations this needs no code:

```yaml
DATASETS_EXTRA:
  my_train: {im_dir: /data/cells/images, ann_fn: /data/cells/train.json}
  my_val: {im_dir: /data/cells/images, ann_fn: /data/cells/val.json}
TRAIN:
  DATASETS: [my_train]
TEST:
  DATASETS: [my_val]
```

FIELDS

Results are written to a folder that is named after the data set, so the name must not contain `/`.
Classes are numbered in the order of `categories` in the annotation file. A data set to test needs
the same order as the data set that the model was trained on.
"""

_ORDER = (
    "MODEL", "RESNETS", "FPN", "GROUP_NORM", "RETINANET", "RPN", "FAST_RCNN", "TRAIN", "TEST",
    "SOLVER", "DATA_LOADER",
)  # fmt: skip


def document() -> str:
    """Return the text of docs/configuration.md."""
    fields = [(f"`{field}`", meaning) for field, meaning in FIELDS.items()]
    datasets = _DATASETS.replace("FIELDS", _rows([("field", "meaning"), *fields]))
    parts = [_INTRODUCTION, datasets, "## LIBRA: what this project adds\n"]
    parts += _section("LIBRA", 3)
    parts.append("## Detectron's keys\n")
    top = {name: key for name, key in _read() if "." not in name}
    parts += ["### Top level\n", _table("", top)]
    for name in _ORDER:
        parts += _section(name, 3)
    parts += [_upstream_only(), _renamed(), _resuming(), _environment()]
    return "\n".join(parts)


def _read() -> Iterable[tuple[str, Key]]:
    """The keys that this project reads."""
    return ((name, key) for name, key in KEYS.items() if key.used_by != UPSTREAM_ONLY)


def _section(name: str, level: int) -> list[str]:
    """The parts of a section and of its inner sections; none if this project reads none of it."""
    if not any(key.startswith(name + ".") for key, _ in _read()):
        return []
    ours = {key: entry for key, entry in _read() if key.rpartition(".")[0] == name}
    parts = []
    if name != "LIBRA":
        parts.append(f"{'#' * level} {name}\n")
    parts.append(_paragraph(SECTIONS[name].description + _common(name, ours)))
    if ours:
        parts.append(_table(name, ours))
    for inner in SECTIONS:
        if inner.rpartition(".")[0] == name:
            parts += _section(inner, level + 1 if name != "LIBRA" else level)
    return parts


def _common(name: str, keys: dict[str, Key]) -> str:
    """What holds for the keys of a section: who uses them, and what upstream does with them."""
    text = ""
    users = SECTIONS[name].used_by
    if users and not _has_users_column(name, keys):
        text += f" Used by {_users(users)}, unless a key says otherwise."
        if all(key.used_by == users for key in keys.values()):
            text = f" Used by {_users(users)}."
    refusals = {key.upstream for key in keys.values()}
    return text + (_refusal(refusals.pop()) if len(refusals) == 1 else "")


def _has_users_column(name: str, keys: dict[str, Key]) -> bool:
    """Whether the table tells for each key who uses it; else the section tells for all."""
    own = SECTIONS[name].used_by if name else None
    return not own and any(key.used_by != ALL_MODELS for key in keys.values())


def _refusal(why: NotUpstream | None) -> str:
    if why is None:
        return ""
    when = "in training " if why.only_in_training else ""
    return f" Refused {when}under upstream Detectron: {why.reason}."


def _users(users: Users) -> str:
    def text(user: ModelKind | When) -> str:
        if isinstance(user, When):
            return f"{user.kind.value} if {user.switch} is True"
        return user.value

    return "all" if users == ALL_MODELS else ", ".join(map(text, users))


def _table(name: str, keys: dict[str, Key]) -> str:
    users_column = _has_users_column(name, keys)
    columns = ["key", "default", "values", *(["used by"] if users_column else []), "meaning"]
    rows = [columns]
    for key_name, key in keys.items():
        values = ", ".join(map(_values, key.rules))
        users = [_users(key.used_by)] if users_column else []
        cells = [f"`{key_name}`", f"`{_default(key.default)}`", values, *users]
        rows.append([*cells, _meaning(name, key, keys)])
    return _rows(rows) + "\n"


def _values(rule: Rule) -> str:
    if not isinstance(rule, RegisteredName):
        return rule.words
    return f"{rule.words}: {', '.join(f'`{name}`' for name in rule.choices)}"


def _meaning(section: str, key: Key, keys: dict[str, Key]) -> str:
    text = key.description
    own = SECTIONS[section].used_by if section else None
    if own and key.used_by != own:
        text += f" Used by {_users(key.used_by)}."
    if len({other.upstream for other in keys.values()}) > 1:
        text += _refusal(key.upstream)
    if key.inferred:
        text += f" It becomes {key.inferred.value} if {' or '.join(key.inferred.if_any)} is True."
    return text


def _rows(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *others = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *others])


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def _default(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _upstream_only() -> str:
    names = ", ".join(f"`{name}`" for name, key in KEYS.items() if key.used_by == UPSTREAM_ONLY)
    return f"""\
## Keys that only upstream Detectron reads

These keys are accepted, so that every configuration of Detectron loads. They have an effect only if
the parts of this project are installed into a checkout of Detectron.

{_paragraph(names)}"""


def _renamed() -> str:
    renamed = [
        (f"`{key.formerly.name}`", f"`{name}`", key.formerly.advice)
        for name, key in KEYS.items()
        if key.formerly
    ]
    return f"""\
## Renamed keys

If a file contains an old name, the run ends with one line that names the new one.

{_rows([("old name", "new name", "what to change"), *renamed])}
"""


def _resuming() -> str:
    deciding = sorted(name for name in ROOT.entries if _decides(name))
    exempt = [
        name
        for name, key in _read()
        if name.partition(".")[0] in deciding and not key.affects_weights
    ]
    return f"""\
## Continuing a run with other values

A run continues from a checkpoint, or uses the final weights in its folder, only if they were
trained with the same values of the keys that affect the weights:
{_paragraph(", ".join(f"`{name}`" for name in deciding) + ".")}
Exceptions:

- These keys may change: {", ".join(f"`{name}`" for name in exempt)}.
- `NUM_GPUS` and the folders of data and weights may change; a warning names them.
- A run that continues from a checkpoint may change `SOLVER`; a warning is logged.
"""


def _decides(section: str) -> bool:
    return any(
        key.affects_weights for name, key in KEYS.items() if name.partition(".")[0] == section
    )


def _environment() -> str:
    groups = {
        "running": environment.RUNNING,
        "building the native operators": environment.BUILDING,
        "testing": environment.TESTING,
    }
    rows = [("variable", "for", "meaning")]
    for purpose, variables in groups.items():
        rows += [(f"`{v.name}`", purpose, v.description) for v in variables]
    return f"## Environment variables\n\n{_rows(rows)}\n"
