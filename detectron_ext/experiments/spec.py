"""The description of a sweep, read from YAML: variants x seeds x image sizes x data sets."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron_ext import config as configuration
from detectron_ext.config.paths import expand_path
from detectron_ext.config.yaml_text import parse_yaml
from detectron_ext.errors import ConfigError
from detectron_ext.evaluation.training_differences import check_primary
from detectron_ext.experiments.folds import Fold, Folds
from detectron_ext.input_files import read_start
from detectron_ext.limits import MAX_YAML_CHARACTERS

REPOSITORY = Path(__file__).resolve().parents[2]
_KEYS = {
    "group", "datasets", "sizes", "seeds", "overrides", "baseline", "variants", "primary",
    "folds",
}  # fmt: skip
_LARGEST = 2**31 - 1  # of a seed or a size
_MOST_FOLDS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Run:
    """One training run of a sweep.

    Attributes:
        dataset: name of the data set in the sweep's file; "" if that names none.
        size: image size in pixels; None if the sweep's file names none.
        variant: name of the variant.
        seed: RNG_SEED.
        config_file: configuration file of the variant.
        overrides: KEY, VALUE, ... for that configuration, without OUTPUT_DIR.
        folder: folder of the run, relative to the results folder.
        fold: the fold of a cross-validation that is trained and tested; None without one.
    """

    dataset: str
    size: int | None
    variant: str
    seed: int
    config_file: str
    overrides: tuple
    folder: str
    fold: Fold | None = None


@dataclass(frozen=True)
class Spec:
    """A sweep.

    Attributes:
        name: name of the file without its extension.
        baseline: the variant that the others are compared with.
        primary: the metric that decides, a key of `evaluation.comparison.LABELS`; "" if the file
            names none.
        variants: names of the variants, in the order of the file.
        runs: all runs of the first seed, then those of the next, so that a sweep that is stopped
            has nearly the same seeds of all variants. The folds of a seed follow one another.
        folds: the cross-validation; None without one.
    """

    name: str
    baseline: str
    primary: str
    variants: tuple
    runs: tuple
    folds: Folds | None = None


def place_name(dataset: str, size: int | None) -> str:
    """Return the folder name of a data set and size; "data" stands for a data set without name."""
    dataset = dataset or "data"
    return dataset if size is None else f"{dataset}_{size}"


def read_spec(path: str) -> Spec:
    """Read a sweep's YAML file.

    Its keys:

    - ``variants``: name to {config: file relative to the sweep's file, overrides: {KEY: value}}. In
      the name of the file ``{dataset}`` is replaced by the name of the data set.
    - ``seeds``: list of values of RNG_SEED.
    - ``datasets`` (optional): name of a data set to its {KEY: value}.
    - ``sizes`` (optional): list of image sizes in pixels, for TRAIN.SCALES. TEST.SCALE keeps the
      ratio that the configuration gives it to the greatest of TRAIN.SCALES, and MAX_SIZE to both.
    - ``overrides`` (optional): {KEY: value} for every run.
    - ``baseline`` (optional): name of a variant; the default is the first one.
    - ``primary`` (optional): the metric that decides whether a variant is better, named before the
      runs are made; a name of `detectron_ext.evaluation.comparison.LABELS`. The default is AP.
    - ``folds`` (optional): number of folds of a cross-validation. The images of TRAIN.DATASETS are
      divided; each run is trained on all folds but one and tested on that one. Or a map of
      ``count``, the number of folds; ``datasets``, a list of data sets to join and divide instead
      of TRAIN.DATASETS (``{dataset}`` is replaced as above); ``scored``, a list of the folds to
      run, counted from 1 (all if left out); and ``seed`` of the division (0 if left out).
    - ``group`` (optional): folder of the runs; the default is the name of the file. Sweeps of one
      group share the runs that they have in common.

    Raises:
        ConfigError: the file cannot be read or does not have this form.
    """
    content = _read(path)
    variants = _variants(path, content)
    baseline = content.get("baseline", next(iter(variants)))
    if not isinstance(baseline, str) or baseline not in variants:
        raise _wrong(path, "baseline", "one of the variants")
    primary = content.get("primary", "")
    if "primary" in content:
        check_primary(primary, f"sweep {path}: primary")
    seeds = _numbers(path, content, "seeds")
    datasets = _datasets(path, content)
    sizes = _numbers(path, content, "sizes", default=[None])
    folds = _folds(path, content)
    group = content.get("group", Path(path).stem)
    _check_name(path, group)
    common = _overrides(path, content, "overrides")
    runs = [
        _run(path, (dataset, size, name, seed), variants[name], {**common, **own}, group, fold)
        for seed in seeds
        for fold in _fold_numbers(folds)
        for dataset, own in datasets.items()
        for size in sizes
        for name in variants
    ]
    return Spec(Path(path).stem, baseline, primary, tuple(variants), tuple(runs), folds)


def _run(
    path: str,
    place: tuple,
    variant: dict,
    common: dict,
    group: str,
    fold: tuple[Folds, int] | None,
) -> Run:
    dataset, size, name, seed = place
    file = os.path.join(
        os.path.dirname(path), expand_path(variant["config"].replace("{dataset}", dataset))
    )
    own = _overrides(path, variant, "overrides")
    place_settings = {"RNG_SEED": seed, **_size_settings(file, size)}
    _check_free(path, place_settings, {**common, **own})
    settings = {**place_settings, **common, **own}
    flat = tuple(part for pair in settings.items() for part in pair)
    folder = os.path.join(group, place_name(dataset, size), name, f"seed{seed}")
    made = None
    if fold is not None:
        made = _fold(group, dataset, *fold)
        folder = f"{folder}_{made.name}"
    return Run(dataset, size, name, seed, os.path.normpath(file), flat, folder, made)


def _fold_numbers(folds: Folds | None) -> list:
    return [None] if folds is None else [(folds, number) for number in folds.scored]


def _fold(group: str, dataset: str, folds: Folds, number: int) -> Fold:
    place = place_name(dataset, None)
    names = tuple(name.replace("{dataset}", dataset) for name in folds.datasets)
    label = place.replace(".", "_")  # it becomes a part of a configuration's dotted keys
    folder = os.path.join(group, f"{place}_{folds.total}folds")
    return Fold(folder, label, number, folds._replace(datasets=names))


def _folds(path: str, content: dict) -> Folds | None:
    if "folds" not in content:
        return None
    given = content["folds"]
    given = given if isinstance(given, dict) else {"count": given}
    count = given.get("count")
    wanted = "a number of at least 2, or {count: N, datasets: [NAME], scored: [1, 2], seed: 0}"
    wanted += f", with at most {_MOST_FOLDS} folds"
    known = not set(given) - {"count", "datasets", "scored", "seed"}
    if not known or type(count) is not int or not 2 <= count <= _MOST_FOLDS:
        raise _wrong(path, "folds", wanted)
    scored = given.get("scored", list(range(1, count + 1)))
    numbers = isinstance(scored, list) and all(type(number) is int for number in scored)
    if not numbers or not scored or not {*scored} <= {*range(1, count + 1)}:
        raise _wrong(path, "folds.scored", f"a list of numbers from 1 to {count}")
    if len(set(scored)) < len(scored):
        raise _wrong(path, "folds.scored", "a list of different numbers")
    datasets = given.get("datasets", [])
    names = isinstance(datasets, list) and all(isinstance(name, str) for name in datasets)
    if not names or ("datasets" in given and not datasets) or len({*datasets}) < len(datasets):
        raise _wrong(path, "folds.datasets", "a list of different names of data sets")
    seed = given.get("seed", 0)
    if type(seed) is not int or not 0 <= seed <= _LARGEST:
        raise _wrong(path, "folds.seed", f"a whole number from 0 to {_LARGEST}")
    return Folds(count, tuple(sorted(scored)), tuple(datasets), seed)


def _check_free(path: str, place_settings: dict, given: dict) -> None:
    """Refuse overrides of the settings that the sweep itself sets."""
    taken = {*place_settings, "OUTPUT_DIR"} - {"TRAIN.MAX_SIZE", "TEST.MAX_SIZE"}
    for key in sorted(taken & set(given)):
        raise ConfigError(f"sweep {path}: {key} is set by the sweep: remove it from overrides")


def _size_settings(file: str, size: int | None) -> dict:
    if size is None:
        return {}
    config = configuration.load(file)
    trained = max(config.TRAIN.SCALES)
    tested = round(size * config.TEST.SCALE / trained)
    return {
        "TRAIN.SCALES": [size],
        "TRAIN.MAX_SIZE": math.ceil(size * config.TRAIN.MAX_SIZE / trained),
        "TEST.SCALE": tested,
        "TEST.MAX_SIZE": math.ceil(tested * config.TEST.MAX_SIZE / config.TEST.SCALE),
    }


def _read(path: str) -> dict:
    try:
        text = read_start(path, MAX_YAML_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"sweep {path} cannot be read: {error.strerror}") from None
    content = parse_yaml(text, path)
    if not isinstance(content, dict):
        raise ConfigError(f"sweep {path} must be a map with the keys {', '.join(sorted(_KEYS))}")
    unknown = sorted(set(content) - _KEYS)
    if unknown:
        known = ", ".join(sorted(_KEYS))
        raise ConfigError(f"sweep {path} has an unknown key {unknown[0]}; it may have {known}")
    return content


def _variants(path: str, content: dict) -> dict:
    variants = content.get("variants")
    if not isinstance(variants, dict) or not variants:
        raise _wrong(path, "variants", "{NAME: {config: FILE}}")
    for name, variant in variants.items():
        is_one = isinstance(variant, dict) and isinstance(variant.get("config"), str)
        if not is_one or set(variant) - {"config", "overrides"}:
            raise _wrong(path, f"variants.{name}", "{config: FILE, overrides: {KEY: value}}")
        _check_name(path, name)
    return variants


def _overrides(path: str, holder: dict, key: str) -> dict:
    given = holder.get(key) or {}
    if not isinstance(given, dict):
        raise _wrong(path, key, "a map of configuration keys such as SOLVER.MAX_ITER: 500")
    return given


def _numbers(path: str, content: dict, key: str, default: Any = None) -> list:
    values = content.get(key, default)
    good = isinstance(values, list) and bool(values)
    if key in content:
        good = good and all(type(value) is int and 0 <= value <= _LARGEST for value in values)
        good = good and len(set(values)) == len(values)
    if not good:
        raise _wrong(path, key, f"a list of different numbers from 0 to {_LARGEST}")
    return values


def _datasets(path: str, content: dict) -> dict:
    given = content.get("datasets", {"": None})
    if not isinstance(given, dict) or not given:
        raise _wrong(path, "datasets", "{NAME: {KEY: value}}")
    for name in given:
        if "datasets" in content:
            _check_name(path, name)
    return {name: _overrides(path, given, name) for name in given}


def _check_name(path: str, name: Any) -> None:
    """Refuse a name that cannot be the name of a folder."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(path, str(name), "a name of letters, digits, '.', '_' and '-'")


def _wrong(path: str, key: str, wanted: str) -> ConfigError:
    return ConfigError(f"sweep {path}: {key} must be {wanted}")
