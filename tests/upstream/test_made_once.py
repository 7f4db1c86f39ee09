"""Parts of the adapter that are made once for a run; needs no checkout."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from detectron_ext.config.keys import default_tree
from detectron_ext.sampling.rpn_targets import RpnTargets
from detectron_ext.upstream import rpn
from detectron_ext.upstream.made_once import MadeOnce


class _Cfg(dict):
    """As upstream's configuration: keys are attributes, and values can be changed in place."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _cfg(value):
    return _Cfg((k, _cfg(v)) for k, v in value.items()) if isinstance(value, dict) else value


@pytest.fixture
def cfg():
    return _cfg(default_tree())


def test_it_is_made_once_by_all_threads(cfg):
    made, start = [], threading.Barrier(8)

    def make(given):
        made.append(given)
        return object()

    once = MadeOnce(make)

    def ask(_):
        start.wait()
        return once.of(cfg)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(made) == 1 and made[0] is cfg


def test_it_is_made_again_when_a_value_changes(cfg):
    once = MadeOnce(lambda given: given.LIBRA.SAMPLER.NUM_BINS)
    assert once.of(cfg) == once.of(cfg) == 3
    cfg.LIBRA.SAMPLER["NUM_BINS"] = 5  # in place, as upstream's merge does
    assert once.of(cfg) == 5
    other = _cfg(default_tree())
    assert once.of(other) == 3


def test_an_error_while_it_is_made_is_raised_each_time(cfg):
    once = MadeOnce(lambda given: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            once.of(cfg)


def test_the_rpns_targets_are_made_once(cfg, monkeypatch):
    made = []
    monkeypatch.setattr(rpn, "upstream_cfg", lambda: cfg)
    monkeypatch.setattr(rpn, "RpnTargets", lambda given: made.append(given) or RpnTargets(given))
    cfg.LIBRA.SAMPLER["RPN"] = True
    cell = type("Anchors", (), {"field_size": 8, "stride": 16})
    make = rpn._making_blobs(None)
    for _ in range(3):
        blobs = make(128, 128, [cell], None, [[10, 10, 90, 90]])
    assert len(made) == 1 and "rpn_labels_int32_wide" in blobs
