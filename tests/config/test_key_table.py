"""The table of keys, and what is derived from it."""

from __future__ import annotations

import re

from squares import REPOSITORY

from detectron_ext.config import document_writer, settings_writer
from detectron_ext.config.keys import KEYS, ROOT, SECTIONS
from detectron_ext.config.keys.key import (
    RETINANET,
    UPSTREAM_ONLY,
    Inferred,
    Key,
    NotUpstream,
    Section,
    When,
)
from detectron_ext.config.rules import at_least

PACKAGE = REPOSITORY / "detectron_ext"


def test_a_key_inherits_missing_attributes_from_its_section():
    refused = NotUpstream("why")
    inner = Section("Inner.", KEY=Key(1, "A key."), OWN=Key(2, "A key.", affects_weights=False))
    outer = Section(
        "Outer.", used_by=RETINANET, upstream=refused, affects_weights=True, INNER=inner
    )
    keys = dict(outer.keys("OUTER."))
    assert list(keys) == ["OUTER.INNER.KEY", "OUTER.INNER.OWN"]
    for name, affects_weights in zip(keys, (True, False)):
        key = keys[name]
        assert (key.used_by, key.upstream) == (RETINANET, refused)
        assert key.affects_weights is affects_weights


def test_a_section_copies_its_defaults():
    section = Section("A section.", KEY=Key([1], "A key."))
    section.defaults()["KEY"].append(2)
    assert section.defaults() == {"KEY": [1]}


def test_a_key_keeps_its_rules():
    assert [rule.words for rule in KEYS["LIBRA.LOG_PERIOD"].rules] == [at_least(1).words]
    assert KEYS["SOLVER.WARM_UP_METHOD"].choices == ("constant", "linear")
    assert KEYS["SOLVER.MAX_ITER"].choices == ()


def test_descriptions_are_whole_sentences_on_one_line():
    for name, entry in {**KEYS, **SECTIONS}.items():
        assert re.fullmatch(r"[A-Z`].*\.", entry.description), name


def test_keys_named_in_entries_exist():
    for key in KEYS.values():
        named = [rule.other for rule in key.rules if hasattr(rule, "other")]
        named += [user.switch for user in key.used_by if isinstance(user, When)]
        named += key.inferred.if_any if key.inferred else ()
        assert set(named) <= set(KEYS)


def test_an_inferred_key_comes_after_the_keys_that_decide_it():
    order = list(KEYS)
    inferred = {name: key.inferred for name, key in KEYS.items() if key.inferred}
    assert inferred["RPN.RPN_ON"] == Inferred(True, ("MODEL.RPN_ONLY", "MODEL.FASTER_RCNN"))
    for name, rule in inferred.items():
        assert all(order.index(cause) < order.index(name) for cause in rule.if_any)


def test_keys_that_a_detector_uses_are_read_by_the_package():
    files = [path for path in PACKAGE.rglob("*.py") if path.parent.parent.name != "config"]
    words = set()
    for path in files:
        if path.parent != PACKAGE / "config":
            words.update(re.findall(r"\b[A-Z][A-Z0-9_]+\b", path.read_text(encoding="utf-8")))
    used = {name for name, key in KEYS.items() if key.used_by != UPSTREAM_ONLY}
    assert {name for name in used if name.rpartition(".")[2] not in words} == set()


def test_no_libra_key_is_only_for_upstream():
    ours = [key for name, key in KEYS.items() if name.startswith("LIBRA.")]
    assert ours and all(key.used_by != UPSTREAM_ONLY for key in ours)


def test_the_document_is_current():
    path = REPOSITORY / "docs" / "configuration.md"
    assert path.read_text(encoding="utf-8") == document_writer.document(), (
        "run tools/document_config.py"
    )


def test_the_document_names_every_key_and_section():
    text = document_writer.document()
    for name in KEYS:
        assert f"`{name}`" in text
    for name in ROOT.entries:
        assert re.search(rf"\b{name}\b", text)


def test_all_rows_of_a_table_have_the_same_number_of_columns():
    for block in document_writer.document().split("\n\n"):
        if block.startswith("|"):
            columns = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
            assert len(columns) == 1, block


def test_the_typed_view_is_current():
    path = PACKAGE / "config" / "settings.py"
    assert path.read_text(encoding="utf-8") == settings_writer.settings_source(), (
        "run tools/document_config.py"
    )
