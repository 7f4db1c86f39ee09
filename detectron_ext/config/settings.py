"""The typed view of a configuration: which keys there are, and the type of each.

Written by tools/document_config.py from config/keys; do not edit. A parameter that is a
configuration has the type ``Settings``; one that is a section has that section's class. Then mypy
finds a mistyped key. This project's read-only Config fits these types, and so does upstream
Detectron's ``cfg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np
else:  # Python 3.7 has no Protocol, and nothing needs it at run time
    Protocol = object


class Node(Protocol):
    """Any section: its keys can be read as items, too."""

    def __getitem__(self, key: str) -> Any: ...


class ClusterSettings(Node, Protocol):
    """The keys of CLUSTER."""

    @property
    def ON_CLUSTER(self) -> bool: ...


class DataLoaderSettings(Node, Protocol):
    """The keys of DATA_LOADER."""

    @property
    def NUM_THREADS(self) -> int: ...

    @property
    def MINIBATCH_QUEUE_SIZE(self) -> int: ...

    @property
    def BLOBS_QUEUE_CAPACITY(self) -> int: ...


class FastRcnnSettings(Node, Protocol):
    """The keys of FAST_RCNN."""

    @property
    def ROI_BOX_HEAD(self) -> str: ...

    @property
    def MLP_HEAD_DIM(self) -> int: ...

    @property
    def CONV_HEAD_DIM(self) -> int: ...

    @property
    def NUM_STACKED_CONVS(self) -> int: ...

    @property
    def ROI_XFORM_METHOD(self) -> str: ...

    @property
    def ROI_XFORM_SAMPLING_RATIO(self) -> int: ...

    @property
    def ROI_XFORM_RESOLUTION(self) -> int: ...


class FpnSettings(Node, Protocol):
    """The keys of FPN."""

    @property
    def FPN_ON(self) -> bool: ...

    @property
    def DIM(self) -> int: ...

    @property
    def ZERO_INIT_LATERAL(self) -> bool: ...

    @property
    def COARSEST_STRIDE(self) -> int: ...

    @property
    def EXTRA_CONV_LEVELS(self) -> bool: ...

    @property
    def USE_GN(self) -> bool: ...

    @property
    def MULTILEVEL_ROIS(self) -> bool: ...

    @property
    def ROI_CANONICAL_SCALE(self) -> int: ...

    @property
    def ROI_CANONICAL_LEVEL(self) -> int: ...

    @property
    def ROI_MAX_LEVEL(self) -> int: ...

    @property
    def ROI_MIN_LEVEL(self) -> int: ...

    @property
    def MULTILEVEL_RPN(self) -> bool: ...

    @property
    def RPN_MAX_LEVEL(self) -> int: ...

    @property
    def RPN_MIN_LEVEL(self) -> int: ...

    @property
    def RPN_ASPECT_RATIOS(self) -> tuple[float, ...]: ...

    @property
    def RPN_ANCHOR_START_SIZE(self) -> int: ...


class GroupNormSettings(Node, Protocol):
    """The keys of GROUP_NORM."""

    @property
    def DIM_PER_GP(self) -> int: ...

    @property
    def NUM_GROUPS(self) -> int: ...

    @property
    def EPSILON(self) -> float: ...


class KrcnnSettings(Node, Protocol):
    """The keys of KRCNN."""

    @property
    def ROI_KEYPOINTS_HEAD(self) -> str: ...

    @property
    def NUM_KEYPOINTS(self) -> int: ...

    @property
    def HEATMAP_SIZE(self) -> int: ...

    @property
    def UP_SCALE(self) -> int: ...

    @property
    def USE_DECONV(self) -> bool: ...

    @property
    def DECONV_DIM(self) -> int: ...

    @property
    def USE_DECONV_OUTPUT(self) -> bool: ...

    @property
    def DECONV_KERNEL(self) -> int: ...

    @property
    def DILATION(self) -> int: ...

    @property
    def NUM_STACKED_CONVS(self) -> int: ...

    @property
    def CONV_HEAD_DIM(self) -> int: ...

    @property
    def CONV_HEAD_KERNEL(self) -> int: ...

    @property
    def CONV_INIT(self) -> str: ...

    @property
    def ROI_XFORM_METHOD(self) -> str: ...

    @property
    def ROI_XFORM_RESOLUTION(self) -> int: ...

    @property
    def ROI_XFORM_SAMPLING_RATIO(self) -> int: ...

    @property
    def NMS_OKS(self) -> bool: ...

    @property
    def KEYPOINT_CONFIDENCE(self) -> str: ...

    @property
    def MIN_KEYPOINT_COUNT_FOR_VALID_MINIBATCH(self) -> int: ...

    @property
    def INFERENCE_MIN_SIZE(self) -> int: ...

    @property
    def LOSS_WEIGHT(self) -> float: ...

    @property
    def NORMALIZE_BY_VISIBLE_KEYPOINTS(self) -> bool: ...


class LibraSettings(Node, Protocol):
    """The keys of LIBRA."""

    @property
    def BFP(self) -> LibraBfpSettings: ...

    @property
    def FPN(self) -> LibraFpnSettings: ...

    @property
    def IMPORTS(self) -> list[str]: ...

    @property
    def BOX_CONVENTION(self) -> str: ...

    @property
    def BOX_LOSS(self) -> str: ...

    @property
    def CLASS_LOSS(self) -> str: ...

    @property
    def BALANCED_L1(self) -> LibraBalancedL1Settings: ...

    @property
    def SAMPLER(self) -> LibraSamplerSettings: ...

    @property
    def RETINANET_SAMPLER(self) -> LibraRetinanetSamplerSettings: ...

    @property
    def RETINANET_WEIGHTS(self) -> LibraRetinanetWeightsSettings: ...

    @property
    def RETINANET_NEGATIVES(self) -> LibraRetinanetNegativesSettings: ...

    @property
    def LOSS_WEIGHTS(self) -> LibraLossWeightsSettings: ...

    @property
    def RETINANET_HEAD(self) -> LibraRetinanetHeadSettings: ...

    @property
    def AUGMENTATION(self) -> LibraAugmentationSettings: ...

    @property
    def TRAIN(self) -> LibraTrainSettings: ...

    @property
    def DATA(self) -> LibraDataSettings: ...

    @property
    def IGNORE_CROWD_ANCHORS(self) -> bool: ...

    @property
    def EVALUATION(self) -> LibraEvaluationSettings: ...

    @property
    def CLIP_GRADIENTS(self) -> float: ...

    @property
    def FAST_CONV(self) -> str: ...

    @property
    def FOLD_AFFINE(self) -> bool: ...

    @property
    def LOG_PERIOD(self) -> int: ...

    @property
    def TENSORBOARD(self) -> bool: ...

    @property
    def THREADS(self) -> int: ...


class LibraBfpSettings(Node, Protocol):
    """The keys of LIBRA.BFP."""

    @property
    def ON(self) -> bool: ...

    @property
    def REFINE_LEVEL(self) -> int: ...

    @property
    def REFINE_TYPE(self) -> str: ...

    @property
    def INIT(self) -> str: ...


class LibraFpnSettings(Node, Protocol):
    """The keys of LIBRA.FPN."""

    @property
    def EXTRA_LEVELS_ON(self) -> str: ...

    @property
    def EXTRA_LEVELS_RELU(self) -> bool: ...


class LibraBalancedL1Settings(Node, Protocol):
    """The keys of LIBRA.BALANCED_L1."""

    @property
    def ON(self) -> bool: ...

    @property
    def ALPHA(self) -> float: ...

    @property
    def GAMMA(self) -> float: ...

    @property
    def FORMULA(self) -> str: ...


class LibraSamplerSettings(Node, Protocol):
    """The keys of LIBRA.SAMPLER."""

    @property
    def NEGATIVE(self) -> str: ...

    @property
    def POSITIVE(self) -> str: ...

    @property
    def NUM_BINS(self) -> int: ...

    @property
    def FLOOR_THRESH(self) -> float: ...

    @property
    def FLOOR_FRACTION(self) -> float: ...

    @property
    def BIN_RANGE(self) -> str: ...

    @property
    def RPN(self) -> bool: ...

    @property
    def RPN_NEG_POS_UB(self) -> float: ...

    @property
    def RPN_NORMALISER(self) -> str: ...


class LibraRetinanetSamplerSettings(Node, Protocol):
    """The keys of LIBRA.RETINANET_SAMPLER."""

    @property
    def MODE(self) -> str: ...

    @property
    def NEGATIVE(self) -> str: ...

    @property
    def NUM_BINS(self) -> int: ...

    @property
    def FLOOR_THRESH(self) -> float: ...

    @property
    def FLOOR_FRACTION(self) -> float: ...

    @property
    def BIN_RANGE(self) -> str: ...

    @property
    def NEG_PER_POS(self) -> float: ...

    @property
    def MIN_NEG(self) -> int: ...

    @property
    def ATSS_POSITIONS(self) -> int: ...


class LibraRetinanetWeightsSettings(Node, Protocol):
    """The keys of LIBRA.RETINANET_WEIGHTS."""

    @property
    def POSITIVE(self) -> str: ...

    @property
    def ETA(self) -> float: ...

    @property
    def RANK_GAMMA(self) -> float: ...

    @property
    def RANK_BIAS(self) -> float: ...

    @property
    def BOX(self) -> str: ...

    @property
    def LAMBDA(self) -> float: ...

    @property
    def BOX_MEAN_ONE(self) -> bool: ...

    @property
    def TOTAL(self) -> str: ...

    @property
    def SHUFFLED(self) -> bool: ...


class LibraRetinanetNegativesSettings(Node, Protocol):
    """The keys of LIBRA.RETINANET_NEGATIVES."""

    @property
    def WEIGHTS(self) -> str: ...

    @property
    def TAU(self) -> float: ...

    @property
    def CLIP(self) -> tuple[float, ...]: ...

    @property
    def MOMENTUM(self) -> float: ...

    @property
    def SHUFFLED(self) -> str: ...


class LibraLossWeightsSettings(Node, Protocol):
    """The keys of LIBRA.LOSS_WEIGHTS."""

    @property
    def CLS(self) -> float: ...

    @property
    def BBOX(self) -> float: ...


class LibraRetinanetHeadSettings(Node, Protocol):
    """The keys of LIBRA.RETINANET_HEAD."""

    @property
    def USE_GN(self) -> bool: ...


class LibraAugmentationSettings(Node, Protocol):
    """The keys of LIBRA.AUGMENTATION."""

    @property
    def FLIP_VERTICAL(self) -> bool: ...

    @property
    def ROTATE90(self) -> bool: ...

    @property
    def SCALE_RANGE(self) -> tuple[float, ...]: ...

    @property
    def CROP(self) -> bool: ...

    @property
    def COLOR_JITTER(self) -> float: ...


class LibraTrainSettings(Node, Protocol):
    """The keys of LIBRA.TRAIN."""

    @property
    def LOAD(self) -> str: ...

    @property
    def KEEP_CHECKPOINTS(self) -> int: ...

    @property
    def SKIP_NONFINITE(self) -> int: ...

    @property
    def FREE_BLOBS(self) -> bool: ...


class LibraDataSettings(Node, Protocol):
    """The keys of LIBRA.DATA."""

    @property
    def DEEP_IMAGES(self) -> str: ...

    @property
    def SKIP_BAD_IMAGES(self) -> bool: ...

    @property
    def KEEP_EMPTY_IMAGES(self) -> bool: ...


class LibraEvaluationSettings(Node, Protocol):
    """The keys of LIBRA.EVALUATION."""

    @property
    def AP_DETECTIONS(self) -> int: ...


class ModelSettings(Node, Protocol):
    """The keys of MODEL."""

    @property
    def TYPE(self) -> str: ...

    @property
    def CONV_BODY(self) -> str: ...

    @property
    def NUM_CLASSES(self) -> int: ...

    @property
    def CLS_AGNOSTIC_BBOX_REG(self) -> bool: ...

    @property
    def BBOX_REG_WEIGHTS(self) -> tuple[float, ...]: ...

    @property
    def FASTER_RCNN(self) -> bool: ...

    @property
    def MASK_ON(self) -> bool: ...

    @property
    def KEYPOINTS_ON(self) -> bool: ...

    @property
    def RPN_ONLY(self) -> bool: ...

    @property
    def EXECUTION_TYPE(self) -> str: ...


class MrcnnSettings(Node, Protocol):
    """The keys of MRCNN."""

    @property
    def ROI_MASK_HEAD(self) -> str: ...

    @property
    def RESOLUTION(self) -> int: ...

    @property
    def ROI_XFORM_METHOD(self) -> str: ...

    @property
    def ROI_XFORM_RESOLUTION(self) -> int: ...

    @property
    def ROI_XFORM_SAMPLING_RATIO(self) -> int: ...

    @property
    def DIM_REDUCED(self) -> int: ...

    @property
    def DILATION(self) -> int: ...

    @property
    def UPSAMPLE_RATIO(self) -> int: ...

    @property
    def USE_FC_OUTPUT(self) -> bool: ...

    @property
    def CONV_INIT(self) -> str: ...

    @property
    def CLS_SPECIFIC_MASK(self) -> bool: ...

    @property
    def WEIGHT_LOSS_MASK(self) -> float: ...

    @property
    def THRESH_BINARIZE(self) -> float: ...


class ResnetsSettings(Node, Protocol):
    """The keys of RESNETS."""

    @property
    def NUM_GROUPS(self) -> int: ...

    @property
    def WIDTH_PER_GROUP(self) -> int: ...

    @property
    def STRIDE_1X1(self) -> bool: ...

    @property
    def TRANS_FUNC(self) -> str: ...

    @property
    def STEM_FUNC(self) -> str: ...

    @property
    def SHORTCUT_FUNC(self) -> str: ...

    @property
    def RES5_DILATION(self) -> int: ...


class RetinanetSettings(Node, Protocol):
    """The keys of RETINANET."""

    @property
    def RETINANET_ON(self) -> bool: ...

    @property
    def ASPECT_RATIOS(self) -> tuple[float, ...]: ...

    @property
    def SCALES_PER_OCTAVE(self) -> int: ...

    @property
    def ANCHOR_SCALE(self) -> int: ...

    @property
    def NUM_CONVS(self) -> int: ...

    @property
    def SHARE_CLS_BBOX_TOWER(self) -> bool: ...

    @property
    def CLASS_SPECIFIC_BBOX(self) -> bool: ...

    @property
    def SOFTMAX(self) -> bool: ...

    @property
    def PRIOR_PROB(self) -> float: ...

    @property
    def POSITIVE_OVERLAP(self) -> float: ...

    @property
    def NEGATIVE_OVERLAP(self) -> float: ...

    @property
    def LOSS_ALPHA(self) -> float: ...

    @property
    def LOSS_GAMMA(self) -> float: ...

    @property
    def BBOX_REG_WEIGHT(self) -> float: ...

    @property
    def BBOX_REG_BETA(self) -> float: ...

    @property
    def PRE_NMS_TOP_N(self) -> int: ...

    @property
    def INFERENCE_TH(self) -> float: ...


class RfcnSettings(Node, Protocol):
    """The keys of RFCN."""

    @property
    def PS_GRID_SIZE(self) -> int: ...


class RpnSettings(Node, Protocol):
    """The keys of RPN."""

    @property
    def RPN_ON(self) -> bool: ...

    @property
    def SIZES(self) -> tuple[float, ...]: ...

    @property
    def STRIDE(self) -> int: ...

    @property
    def ASPECT_RATIOS(self) -> tuple[float, ...]: ...


class SolverSettings(Node, Protocol):
    """The keys of SOLVER."""

    @property
    def BASE_LR(self) -> float: ...

    @property
    def LR_POLICY(self) -> str: ...

    @property
    def GAMMA(self) -> float: ...

    @property
    def STEP_SIZE(self) -> int: ...

    @property
    def STEPS(self) -> list[float]: ...

    @property
    def LRS(self) -> list[float]: ...

    @property
    def MAX_ITER(self) -> int: ...

    @property
    def MOMENTUM(self) -> float: ...

    @property
    def WEIGHT_DECAY(self) -> float: ...

    @property
    def WEIGHT_DECAY_GN(self) -> float: ...

    @property
    def WARM_UP_ITERS(self) -> int: ...

    @property
    def WARM_UP_FACTOR(self) -> float: ...

    @property
    def WARM_UP_METHOD(self) -> str: ...

    @property
    def SCALE_MOMENTUM(self) -> bool: ...

    @property
    def SCALE_MOMENTUM_THRESHOLD(self) -> float: ...

    @property
    def LOG_LR_CHANGE_THRESHOLD(self) -> float: ...


class TestSettings(Node, Protocol):
    """The keys of TEST."""

    @property
    def WEIGHTS(self) -> str: ...

    @property
    def DATASETS(self) -> tuple[str, ...]: ...

    @property
    def SCALE(self) -> int: ...

    @property
    def MAX_SIZE(self) -> int: ...

    @property
    def PROPOSAL_FILES(self) -> tuple[str, ...]: ...

    @property
    def PROPOSAL_LIMIT(self) -> int: ...

    @property
    def PRECOMPUTED_PROPOSALS(self) -> bool: ...

    @property
    def GENERATE_PROPOSALS_ON_GPU(self) -> bool: ...

    @property
    def RPN_NMS_THRESH(self) -> float: ...

    @property
    def RPN_PRE_NMS_TOP_N(self) -> int: ...

    @property
    def RPN_POST_NMS_TOP_N(self) -> int: ...

    @property
    def RPN_MIN_SIZE(self) -> int: ...

    @property
    def BBOX_REG(self) -> bool: ...

    @property
    def NMS(self) -> float: ...

    @property
    def SCORE_THRESH(self) -> float: ...

    @property
    def DETECTIONS_PER_IM(self) -> int: ...

    @property
    def SOFT_NMS(self) -> TestSoftNmsSettings: ...

    @property
    def BBOX_VOTE(self) -> TestBboxVoteSettings: ...

    @property
    def COMPETITION_MODE(self) -> bool: ...

    @property
    def FORCE_JSON_DATASET_EVAL(self) -> bool: ...

    @property
    def CLASS_SPECIFIC_AR(self) -> bool: ...

    @property
    def BBOX_AUG(self) -> TestBboxAugSettings: ...

    @property
    def MASK_AUG(self) -> TestMaskAugSettings: ...

    @property
    def KPS_AUG(self) -> TestKpsAugSettings: ...


class TestSoftNmsSettings(Node, Protocol):
    """The keys of TEST.SOFT_NMS."""

    @property
    def ENABLED(self) -> bool: ...

    @property
    def METHOD(self) -> str: ...

    @property
    def SIGMA(self) -> float: ...


class TestBboxVoteSettings(Node, Protocol):
    """The keys of TEST.BBOX_VOTE."""

    @property
    def ENABLED(self) -> bool: ...

    @property
    def VOTE_TH(self) -> float: ...

    @property
    def SCORING_METHOD(self) -> str: ...

    @property
    def SCORING_METHOD_BETA(self) -> float: ...


class TestBboxAugSettings(Node, Protocol):
    """The keys of TEST.BBOX_AUG."""

    @property
    def ENABLED(self) -> bool: ...

    @property
    def H_FLIP(self) -> bool: ...

    @property
    def SCALES(self) -> tuple[float, ...]: ...

    @property
    def MAX_SIZE(self) -> int: ...

    @property
    def SCALE_H_FLIP(self) -> bool: ...

    @property
    def SCALE_SIZE_DEP(self) -> bool: ...

    @property
    def ASPECT_RATIOS(self) -> tuple[float, ...]: ...

    @property
    def ASPECT_RATIO_H_FLIP(self) -> bool: ...

    @property
    def SCORE_HEUR(self) -> str: ...

    @property
    def COORD_HEUR(self) -> str: ...

    @property
    def AREA_TH_LO(self) -> int: ...

    @property
    def AREA_TH_HI(self) -> int: ...


class TestMaskAugSettings(Node, Protocol):
    """The keys of TEST.MASK_AUG."""

    @property
    def ENABLED(self) -> bool: ...

    @property
    def H_FLIP(self) -> bool: ...

    @property
    def SCALES(self) -> tuple[float, ...]: ...

    @property
    def MAX_SIZE(self) -> int: ...

    @property
    def SCALE_H_FLIP(self) -> bool: ...

    @property
    def SCALE_SIZE_DEP(self) -> bool: ...

    @property
    def ASPECT_RATIOS(self) -> tuple[float, ...]: ...

    @property
    def ASPECT_RATIO_H_FLIP(self) -> bool: ...

    @property
    def HEUR(self) -> str: ...

    @property
    def AREA_TH(self) -> int: ...


class TestKpsAugSettings(Node, Protocol):
    """The keys of TEST.KPS_AUG."""

    @property
    def ENABLED(self) -> bool: ...

    @property
    def H_FLIP(self) -> bool: ...

    @property
    def SCALES(self) -> tuple[float, ...]: ...

    @property
    def MAX_SIZE(self) -> int: ...

    @property
    def SCALE_H_FLIP(self) -> bool: ...

    @property
    def SCALE_SIZE_DEP(self) -> bool: ...

    @property
    def ASPECT_RATIOS(self) -> tuple[float, ...]: ...

    @property
    def ASPECT_RATIO_H_FLIP(self) -> bool: ...

    @property
    def HEUR(self) -> str: ...

    @property
    def AREA_TH(self) -> int: ...


class TrainSettings(Node, Protocol):
    """The keys of TRAIN."""

    @property
    def WEIGHTS(self) -> str: ...

    @property
    def DATASETS(self) -> tuple[str, ...]: ...

    @property
    def SCALES(self) -> tuple[float, ...]: ...

    @property
    def MAX_SIZE(self) -> int: ...

    @property
    def IMS_PER_BATCH(self) -> int: ...

    @property
    def USE_FLIPPED(self) -> bool: ...

    @property
    def ASPECT_GROUPING(self) -> bool: ...

    @property
    def GT_MIN_AREA(self) -> int: ...

    @property
    def CROWD_FILTER_THRESH(self) -> float: ...

    @property
    def BATCH_SIZE_PER_IM(self) -> int: ...

    @property
    def FG_FRACTION(self) -> float: ...

    @property
    def FG_THRESH(self) -> float: ...

    @property
    def BG_THRESH_HI(self) -> float: ...

    @property
    def BG_THRESH_LO(self) -> float: ...

    @property
    def BBOX_THRESH(self) -> float: ...

    @property
    def PROPOSAL_FILES(self) -> tuple[str, ...]: ...

    @property
    def GENERATE_PROPOSALS_ON_GPU(self) -> bool: ...

    @property
    def RPN_POSITIVE_OVERLAP(self) -> float: ...

    @property
    def RPN_NEGATIVE_OVERLAP(self) -> float: ...

    @property
    def RPN_FG_FRACTION(self) -> float: ...

    @property
    def RPN_BATCH_SIZE_PER_IM(self) -> int: ...

    @property
    def RPN_NMS_THRESH(self) -> float: ...

    @property
    def RPN_PRE_NMS_TOP_N(self) -> int: ...

    @property
    def RPN_POST_NMS_TOP_N(self) -> int: ...

    @property
    def RPN_STRADDLE_THRESH(self) -> int: ...

    @property
    def RPN_MIN_SIZE(self) -> int: ...

    @property
    def SNAPSHOT_ITERS(self) -> int: ...

    @property
    def AUTO_RESUME(self) -> bool: ...

    @property
    def COPY_WEIGHTS(self) -> bool: ...

    @property
    def FREEZE_CONV_BODY(self) -> bool: ...

    @property
    def FREEZE_AT(self) -> int: ...


class Settings(Node, Protocol):
    """A whole configuration."""

    @property
    def NUM_GPUS(self) -> int: ...

    @property
    def USE_NCCL(self) -> bool: ...

    @property
    def DEDUP_BOXES(self) -> float: ...

    @property
    def BBOX_XFORM_CLIP(self) -> float: ...

    @property
    def PIXEL_MEANS(self) -> np.ndarray: ...

    @property
    def RNG_SEED(self) -> int: ...

    @property
    def EPS(self) -> float: ...

    @property
    def OUTPUT_DIR(self) -> str: ...

    @property
    def MATLAB(self) -> str: ...

    @property
    def MEMONGER(self) -> bool: ...

    @property
    def MEMONGER_SHARE_ACTIVATIONS(self) -> bool: ...

    @property
    def VIS(self) -> bool: ...

    @property
    def VIS_TH(self) -> float: ...

    @property
    def EXPECTED_RESULTS(self) -> list[list[Any]]: ...

    @property
    def EXPECTED_RESULTS_RTOL(self) -> float: ...

    @property
    def EXPECTED_RESULTS_ATOL(self) -> float: ...

    @property
    def EXPECTED_RESULTS_SIGMA_TOL(self) -> int: ...

    @property
    def EXPECTED_RESULTS_EMAIL(self) -> str: ...

    @property
    def DOWNLOAD_CACHE(self) -> str: ...

    @property
    def ROOT_DIR(self) -> str: ...

    @property
    def CLUSTER(self) -> ClusterSettings: ...

    @property
    def DATASETS_EXTRA(self) -> Mapping[str, Mapping[str, str]]: ...

    @property
    def DATA_LOADER(self) -> DataLoaderSettings: ...

    @property
    def FAST_RCNN(self) -> FastRcnnSettings: ...

    @property
    def FPN(self) -> FpnSettings: ...

    @property
    def GROUP_NORM(self) -> GroupNormSettings: ...

    @property
    def KRCNN(self) -> KrcnnSettings: ...

    @property
    def LIBRA(self) -> LibraSettings: ...

    @property
    def MODEL(self) -> ModelSettings: ...

    @property
    def MRCNN(self) -> MrcnnSettings: ...

    @property
    def RESNETS(self) -> ResnetsSettings: ...

    @property
    def RETINANET(self) -> RetinanetSettings: ...

    @property
    def RFCN(self) -> RfcnSettings: ...

    @property
    def RPN(self) -> RpnSettings: ...

    @property
    def SOLVER(self) -> SolverSettings: ...

    @property
    def TEST(self) -> TestSettings: ...

    @property
    def TRAIN(self) -> TrainSettings: ...
