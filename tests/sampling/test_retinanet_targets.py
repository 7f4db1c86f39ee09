from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from squares import REPOSITORY

from detectron_ext import config as configuration
from detectron_ext.errors import ConfigError
from detectron_ext.geometry.boxes import encode
from detectron_ext.modeling import build_model
from detectron_ext.sampling.atss import adaptive_positives
from detectron_ext.sampling.retinanet_sampler import MODES, SampledAnchors
from detectron_ext.sampling.retinanet_targets import RetinanetTargets, assign_anchors
from detectron_ext.sampling.sampling_statistics import counts_blob

_RNG = np.random.default_rng(0)
_PYRAMID = ["FPN.RPN_MIN_LEVEL", "3", "FPN.RPN_MAX_LEVEL", "7", "MODEL.NUM_CLASSES", "4"]


def _config(*overrides):
    return configuration.load(None, [*_PYRAMID, *overrides])


def _sample(boxes, classes, is_crowd=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    is_crowd = np.zeros(len(boxes), bool) if is_crowd is None else np.array(is_crowd)
    classes = np.array(classes, dtype=np.int32)
    return SimpleNamespace(boxes=boxes, classes=classes, is_crowd=is_crowd)


def test_labels_follow_the_two_thresholds():
    truth = [[0, 0, 99, 99]]
    widths = np.array([100, 60, 45, 30])  # IoU 1, 0.6, 0.45, 0.3
    anchors = np.stack([0 * widths, 0 * widths, widths - 1, 0 * widths + 99], 1).astype(np.float32)
    sample = _sample(truth, [2])
    labels, matched, overlaps, num_foreground = assign_anchors(anchors, sample, _config())
    np.testing.assert_array_equal(labels, [2, 2, -1, 0])
    np.testing.assert_array_equal(matched, 0)
    np.testing.assert_allclose(overlaps, widths / 100, rtol=1e-6)
    assert num_foreground == 2


def test_best_anchor_is_positive_unless_its_overlap_makes_it_background():
    """Detectron labels the best anchor first. Then the negative threshold changes its label."""
    sample = _sample([[0, 0, 99, 99]], [1])
    between = np.array([[0, 0, 44, 99], [0, 0, 44, 99]], dtype=np.float32)
    assert list(assign_anchors(between, sample, _config())[0]) == [1, 1]
    below = np.array([[0, 0, 29, 99]], dtype=np.float32)
    labels, _, _, num_foreground = assign_anchors(below, sample, _config())
    assert list(labels) == [0]
    assert num_foreground == 1  # counted before the threshold changes the label


@pytest.mark.parametrize("mode", ["none", "select", "reweight"])
@pytest.mark.parametrize("box", [[122, 122, 133, 133], [121, 89, 122, 164]])  # small; thin
def test_normalisers_count_best_anchors_that_are_background(box, mode):
    """The numbers are computed by hand, with one square anchor of 32 pixels for each cell of 8.

    Anchor k spans the pixels 8k - 12 to 8k + 19. The small box, 122 to 133, lies completely inside
    the anchors k = 15 and 16 in both directions: 4 anchors with IoU 144 / 1024. The thin box, 2 x
    76 pixels, has its largest overlap with the anchors that contain both of its columns (k = 13 to
    16) and whose rows lie inside its height (k = 13 to 18): 24 anchors with IoU 64 / 1112.
    """
    settings = ["FPN.RPN_MAX_LEVEL", "3", "RETINANET.ASPECT_RATIOS", "(1.0,)"]
    settings += ["RETINANET.SCALES_PER_OCTAVE", "1", "LIBRA.RETINANET_SAMPLER.MODE", mode]
    config = _config(*settings)
    blobs = RetinanetTargets(config)([_sample([box], [1])], 256, 256, _RNG)
    assert not (blobs["retnet_cls_labels_fpn3"] > 0).any()
    best = 4 if box[0] == 122 else 24
    assert blobs["retnet_fg_num"] == best + 1
    assert blobs["retnet_bg_num"] == (32 * 32 + 1) * 3 + (best + 1) * 2


def test_all_anchors_are_background_without_ground_truth():
    anchors = np.array([[0, 0, 9, 9]], dtype=np.float32)
    labels, _, overlaps, _ = assign_anchors(anchors, _sample([], []), _config())
    assert list(labels) == [0] and list(overlaps) == [0]


@pytest.mark.parametrize("mode", ["none", "select", "reweight", "atss", "threshold_as_atss"])
def test_blobs_have_the_names_that_the_training_net_reads(mode):
    config = configuration.load(
        str(REPOSITORY / "configs" / "retinanet_R-36-tiny.yaml"),
        ["MODEL.NUM_CLASSES", "4", "LIBRA.RETINANET_SAMPLER.MODE", mode],
    )
    blobs = RetinanetTargets(config)([_sample([[40, 40, 103, 103]], [3])], 128, 256, _RNG)
    model = build_model(config, train=True)
    made = {name for operator in model.param_init_net.Proto().op for name in operator.output}
    read = set(model.net.Proto().external_input) - made
    logged = {*model.metrics, *map(counts_blob, model.samplers)}
    assert set(blobs) | {"data"} == read | logged


def test_blobs_have_the_shapes_of_detectron():
    config = _config()
    boxes = [[40, 40, 103, 103]]
    blobs = RetinanetTargets(config)([_sample(boxes, [3]), _sample([], [])], 128, 256, _RNG)
    for level in range(3, 8):
        labels = blobs[f"retnet_cls_labels_fpn{level}"]
        assert labels.shape == (2, 9, 128 // 2**level, 256 // 2**level)
        assert labels.dtype == np.int32
        assert (labels[1] == 0).all()
    foreground = sum((blobs[f"retnet_cls_labels_fpn{k}"] > 0).sum() for k in range(3, 8))
    assert foreground > 0
    assert blobs["retnet_fg_num"] == foreground + 2  # one extra for each image
    assert blobs["retnet_fg_num"].shape == (1,)


@pytest.mark.parametrize("class_specific", [False, True])
def test_locations_point_to_the_anchor_of_each_target(class_specific):
    config = _config("RETINANET.CLASS_SPECIFIC_BBOX", str(class_specific))
    targets = RetinanetTargets(config)
    truth = np.array([[37, 21, 90, 80]], dtype=np.float32)
    blobs = targets([_sample([], []), _sample(truth, [2])], 128, 128, _RNG)
    seen = 0
    for level, anchors in targets._level_anchors(128, 128).items():
        rows = blobs[f"retnet_roi_fg_bbox_locs_fpn{level}"]
        values = blobs[f"retnet_roi_bbox_targets_fpn{level}"]
        assert rows.dtype == values.dtype == np.float32
        for (image, channel, y, x), value in zip(rows.astype(int), values):
            anchor = channel // (12 if class_specific else 4)
            assert image == 1
            assert channel % 12 // 4 == 1 or not class_specific
            assert blobs[f"retnet_cls_labels_fpn{level}"][image, anchor, y, x] == 2
            expected = encode(anchors[anchor, y, x][None], truth)[0]
            np.testing.assert_allclose(value, expected, rtol=1e-5)
            seen += 1
    assert seen == blobs["retnet_fg_num"] - 2


@pytest.mark.parametrize("key", ["LIBRA.AUGMENTATION.CROP", "LIBRA.IGNORE_CROWD_ANCHORS"])
def test_crowds_are_background_as_in_detectron_unless_a_key_ignores_them(key):
    crowd = _sample([[10, 10, 50, 50], [0, 0, 127, 127]], [1, 1], [False, True])
    cropping_config = _config(key, "True")
    plain = RetinanetTargets(_config())([crowd], 128, 128, _RNG)
    cropping = RetinanetTargets(cropping_config)([crowd], 128, 128, _RNG)
    inside = plain["retnet_cls_labels_fpn3"] == 0
    assert inside.any()
    assert (cropping["retnet_cls_labels_fpn3"][inside] == -1).sum() > 0.5 * inside.sum()
    positive = plain["retnet_cls_labels_fpn3"] > 0
    np.testing.assert_array_equal(positive, cropping["retnet_cls_labels_fpn3"] > 0)
    off = _config(key, "True", "TRAIN.CROWD_FILTER_THRESH", "0.0")
    blobs = RetinanetTargets(off)([crowd], 128, 128, _RNG)
    np.testing.assert_array_equal(blobs["retnet_cls_labels_fpn3"], plain["retnet_cls_labels_fpn3"])


def test_map_sizes_are_rounded_up():
    blobs = RetinanetTargets(_config())([_sample([[0, 0, 30, 30]], [1])], 100, 130, _RNG)
    assert blobs["retnet_cls_labels_fpn3"].shape[2:] == (13, 17)
    assert blobs["retnet_cls_labels_fpn7"].shape[2:] == (1, 2)


def _own_mode(weighs_here, answer):
    @MODES.register("own")
    class Own:
        weighs = weighs_here

        def __init__(self, config):
            self.config = config

        def __call__(self, image):
            count = len(image.anchors)
            assert image.labels.shape == image.overlaps.shape == image.matched.shape == (count,)
            assert image.anchors.shape == (count, 4)
            # The second of the sample's boxes is a crowd.
            np.testing.assert_array_equal(image.boxes, [[8, 8, 71, 71]])
            np.testing.assert_array_equal(image.classes, [2])
            return answer(image)

    sample = _sample([[8, 8, 71, 71], [0, 0, 20, 20]], [2, 1], [False, True])
    targets = RetinanetTargets(_config("LIBRA.RETINANET_SAMPLER.MODE", "own"))
    return targets([sample], 128, 128, np.random.default_rng(0))


@pytest.mark.usefixtures("restored_registries")
def test_a_mode_of_a_user_decides_labels_and_weights():
    def answer(image):
        labels = np.where(image.labels > 0, image.labels, -1)
        return SampledAnchors(labels, np.full(len(labels), 0.25, np.float32))

    blobs = _own_mode(True, answer)
    labels = np.concatenate([blobs[f"retnet_cls_labels_fpn{k}"].ravel() for k in range(3, 8)])
    assert set(labels) == {-1, 2}
    for level in range(3, 8):
        weights = blobs[f"retnet_cls_weights_fpn{level}"]
        assert weights.shape == blobs[f"retnet_cls_labels_fpn{level}"].shape
        assert (weights == 0.25).all()


@pytest.mark.usefixtures("restored_registries")
@pytest.mark.parametrize("weighs", [True, False])
def test_a_mode_that_contradicts_itself_is_refused(weighs):
    def answer(image):
        weights = None if weighs else np.ones(len(image.labels), np.float32)
        return SampledAnchors(image.labels, weights)

    with pytest.raises(ConfigError, match=f"MODE own: its class says weighs = {weighs}, but it"):
        _own_mode(weighs, answer)


@pytest.mark.usefixtures("restored_registries")
def test_a_mode_may_change_the_matches():
    def answer(image):
        labels = np.full(len(image.labels), -1, np.int32)
        labels[7] = 2
        return SampledAnchors(labels, matched=np.zeros(len(labels), np.int64))

    blobs = _own_mode(False, answer)
    assert sum(len(blobs[f"retnet_roi_bbox_targets_fpn{k}"]) for k in range(3, 8)) == 1


def _labels(change):
    def answer(image):
        labels = image.labels.copy()
        return SampledAnchors(change(labels))

    return answer


def _with(**fields):
    def answer(image):
        count = len(image.labels)
        return SampledAnchors(image.labels, **{k: v(count) for k, v in fields.items()})

    return answer


@pytest.mark.usefixtures("restored_registries")
@pytest.mark.parametrize(
    "weighs, answer, fault",
    [
        (False, lambda image: image.labels, "it must return SampledAnchors, given ndarray"),
        (
            False,
            _labels(lambda labels: labels[:5]),
            r"its labels must be \d+ integers, given int32",
        ),
        (False, _labels(lambda labels: labels + 0.0), r"its labels must be \d+ integers, given fl"),
        (False, _labels(lambda labels: None), r"its labels must be \d+ integers, given object of"),
        (False, _labels(lambda labels: labels * 2), r"its labels must lie between -1 and 3, given"),
        (False, _labels(lambda labels: labels - 1), r"its labels must lie between -1 and 3, given"),
        (
            True,
            _with(weights=lambda n: np.ones(n - 1)),
            r"its weights must be \d+ floats, given fl",
        ),
        (
            True,
            _with(weights=lambda n: np.ones(n, int)),
            r"its weights must be \d+ floats, given i",
        ),
        (True, _with(weights=lambda n: np.full(n, np.nan)), "its weights must be finite and at le"),
        (
            True,
            _with(weights=lambda n: np.full(n, -1.0)),
            "its weights must be finite and at least",
        ),
        (
            False,
            _with(matched=lambda n: np.ones(n, int)),
            "its positives must be matched with boxes",
        ),
    ],
)
def test_wrong_results_of_a_mode_are_refused(weighs, answer, fault):
    with pytest.raises(ConfigError, match=f"^LIBRA.RETINANET_SAMPLER.MODE own: {fault}") as error:
        _own_mode(weighs, answer)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("restored_registries")
def test_a_mode_may_return_larger_number_types():
    def answer(image):
        labels = image.labels.astype(np.int64)
        return SampledAnchors(labels, np.ones(len(labels)), image.matched.astype(np.int32))

    blobs = _own_mode(True, answer)
    assert blobs["retnet_cls_labels_fpn3"].dtype == np.int32
    assert blobs["retnet_cls_weights_fpn3"].dtype == np.float32


@pytest.mark.usefixtures("restored_registries")
def test_positives_of_a_mode_need_an_object():
    @MODES.register("all")
    class All:
        weighs = False

        def __init__(self, config):
            pass

        def __call__(self, image):
            return SampledAnchors(np.ones_like(image.labels))

    targets = RetinanetTargets(_config("LIBRA.RETINANET_SAMPLER.MODE", "all"))
    empty = _sample(np.zeros((0, 4)), [])
    with pytest.raises(ConfigError, match="it labels anchors as positive in an image without"):
        targets([empty], 128, 128, np.random.default_rng(0))


@pytest.mark.parametrize(
    "part",
    [
        len,
        object,
        type("Mode", (), {"weighs": None}),
        type("Mode", (), {"weighs": False, "assigns": 1}),
    ],
)
def test_a_mode_must_be_a_class_with_the_attribute_weighs(part):
    with pytest.raises(
        ConfigError, match="'odd' must be a class whose attribute weighs is True or"
    ):
        MODES.register("odd")(part)


def _all_labels(blobs):
    return np.concatenate([blobs[f"retnet_cls_labels_fpn{k}"].ravel() for k in range(3, 8)])


def _all_targets(blobs):
    return np.concatenate([blobs[f"retnet_roi_bbox_targets_fpn{k}"] for k in range(3, 8)])


_ATSS = ("LIBRA.RETINANET_SAMPLER.MODE", "atss")
_CONTROL = ("LIBRA.RETINANET_SAMPLER.MODE", "threshold_as_atss")
_SCENE = [[8, 8, 71, 71], [60, 50, 90, 110], [100, 20, 109, 29]], [2, 1, 3]


@pytest.mark.parametrize("positions", [1, 9])
def test_atss_trains_its_positives_and_has_all_other_anchors_as_background(positions):
    config = _config(*_ATSS, "LIBRA.RETINANET_SAMPLER.ATSS_POSITIONS", str(positions))
    targets = RetinanetTargets(config)
    sample = _sample(*_SCENE)
    blobs = targets([sample], 128, 128, _RNG)
    levels = targets._level_anchors(128, 128).values()
    anchors = np.concatenate([level.reshape(-1, 4) for level in levels])
    shapes = [level.shape[:3] for level in levels]
    chosen = adaptive_positives(anchors, shapes, sample.boxes, positions)
    expected = np.zeros(len(anchors), np.int32)
    expected[chosen.anchors] = sample.classes[chosen.objects]
    np.testing.assert_array_equal(_all_labels(blobs), expected)
    regressed = encode(anchors[chosen.anchors], sample.boxes[chosen.objects])
    np.testing.assert_array_equal(_all_targets(blobs), regressed)
    plain = RetinanetTargets(_config())([sample], 128, 128, _RNG)
    assert (_all_labels(plain) == -1).any() and (_all_labels(plain) != expected).any()


def test_the_control_of_atss_has_as_many_positives_with_the_highest_overlaps():
    samples = [_sample(*_SCENE), _sample([], []), _sample([[3, 4, 120, 100]], [1])]
    adaptive = RetinanetTargets(_config(*_ATSS))
    control = RetinanetTargets(_config(*_CONTROL))
    for sample in samples:
        of_atss, made = (part([sample], 128, 128, _RNG) for part in (adaptive, control))
        labels = _all_labels(made)
        count = np.count_nonzero(_all_labels(of_atss))
        assert np.count_nonzero(labels) == count and labels.min() == 0
        assert (count > 0) == (len(sample.boxes) > 0)
        assert made["retnet_fg_num"] == of_atss["retnet_fg_num"] == count + 1
        overlaps = control.assignment(sample, 128, 128, _RNG).overlaps
        assert overlaps[labels > 0].min(initial=1) >= overlaps[labels == 0].max()


@pytest.mark.usefixtures("restored_registries")
@pytest.mark.parametrize("decides", [True, False])
def test_losses_are_divided_by_the_positives_of_a_mode_that_assigns(decides):
    @MODES.register("three")
    class Three:
        weighs = False
        assigns = decides

        def __init__(self, config):
            pass

        def __call__(self, image):
            labels = np.full_like(image.labels, -1)
            labels[:3], labels[10:14] = 1, 0
            return SampledAnchors(labels, matched=np.zeros(len(labels), np.int64))

    sample = _sample([[8, 8, 71, 71]], [2])
    plain = RetinanetTargets(_config())([sample] * 2, 128, 128, _RNG)
    config = _config("LIBRA.RETINANET_SAMPLER.MODE", "three")
    blobs = RetinanetTargets(config)([sample] * 2, 128, 128, _RNG)
    assert plain["retnet_fg_num"] > 20
    if decides:  # Detectron counts one more of each in an image, and classes of each anchor
        assert blobs["retnet_fg_num"] == 2 * (3 + 1)
        assert blobs["retnet_bg_num"] == 2 * (4 + 1) * 3 + 2 * (3 + 1) * 2
    else:
        assert blobs["retnet_fg_num"] == plain["retnet_fg_num"]
        assert blobs["retnet_bg_num"] == plain["retnet_bg_num"]


@pytest.mark.parametrize("mode", [_ATSS, _CONTROL])
def test_modes_that_assign_treat_crowds_as_configured(mode):
    crowd = _sample([[10, 10, 50, 50], [0, 0, 127, 127]], [1, 1], [False, True])
    kept = _all_labels(RetinanetTargets(_config(*mode))([crowd], 128, 128, _RNG))
    alone = _sample([[10, 10, 50, 50]], [1])
    without = _all_labels(RetinanetTargets(_config(*mode))([alone], 128, 128, _RNG))
    np.testing.assert_array_equal(kept, without)  # a crowd is no object to assign
    key = ("LIBRA.IGNORE_CROWD_ANCHORS", "True")
    ignored = _all_labels(RetinanetTargets(_config(*mode, *key))([crowd], 128, 128, _RNG))
    np.testing.assert_array_equal(ignored > 0, kept > 0)
    assert np.count_nonzero(ignored == -1) > 0.5 * np.count_nonzero(kept == 0)


def test_the_log_counts_all_negatives_of_atss_in_a_bin_and_its_positives():
    """The third object lies between the centres of cells: no anchor of it is positive."""
    sample = _sample([[8, 8, 71, 71], [60, 50, 90, 110], [101, 21, 105, 25]], [2, 1, 3])
    blobs = RetinanetTargets(_config(*_ATSS))([sample], 128, 128, _RNG)
    labels = _all_labels(blobs)
    *bins, negatives, positives, _, instances, bare, images = blobs[counts_blob("retinanet")]
    assert sum(bins) == negatives == np.count_nonzero(labels == 0)
    assert positives == np.count_nonzero(labels > 0)
    assert (instances, bare, images) == (3, 1, 1)


@pytest.mark.usefixtures("restored_registries")
def test_a_mode_knows_the_level_of_each_anchor():
    def answer(image):
        assert list(image.level_shapes) == [3, 4, 5, 6, 7]
        assert image.level_shapes[4] == (9, 8, 8)
        widths = image.anchors[:, 2] - image.anchors[:, 0] + 1
        heights = image.anchors[:, 3] - image.anchors[:, 1] + 1
        octave = np.log2(np.sqrt(widths * heights) / 4 * 1.1)  # rounding makes some smaller
        np.testing.assert_array_equal(np.floor(octave), image.levels)
        return SampledAnchors(image.labels)

    _own_mode(False, answer)
