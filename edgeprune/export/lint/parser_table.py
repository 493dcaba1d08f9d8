"""What TensorRT's ONNX parser takes, as data: facts of onnx-tensorrt's published table and source, each with its place.

Read: `docs/operators.md` of TensorRT 10.15 ("Operator Support Matrix"); `onnxOpImporters.cpp`, `onnxOpCheckers.cpp` and
`ModelImporter.cpp` of 10.6.0 (commit 0137504) and of about 10.15; `docs/Changelog.md`. The types that edgeprune's graphs have
are in the table of 9.2 as well; none of 10.3 could be read. Not taken over: what the sources ask of recurrent networks, loops,
Einsum and plugins, which no graph here has. `parser.py` holds graphs to this, for the lint and for the parser of the tests'
fake TensorRT.
"""

from dataclasses import dataclass

Version = tuple[int, int]

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
INTS = ("INT32", "INT64")
BOOLS = ("BOOL",)
ANY = FLOATS + INTS + BOOLS
QUANTIZED = ("INT8", "FLOAT8E4M3FN", "INT4", "FLOAT4E2M1")
HALVES = ("FLOAT", "FLOAT16")

# Opsets that a parser reads from this version on (operators.md, first paragraph, of 10.0 and 10.15).
OPSETS: dict[Version, tuple[int, int]] = {(10, 0): (9, 20), (10, 15): (9, 24)}


def _each(types: tuple[str, ...], names: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names.split(), types)


# Types of an operator's data, from the column "Supported Types"; what is not here is marked N there, or missing.
TYPES: dict[str, tuple[str, ...]] = {
    **_each(
        FLOATS,
        """Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh CumSum
        Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid
        HardSwish Hardmax ImageScaler InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM
        LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization ParametricSoftplus PRelu QuantizeLinear RandomNormal
        RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize RMSNormalization RNN RotaryEmbedding Round
        ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample""",
    ),
    **_each(
        FLOATS + INTS,
        """Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod Mul
        Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK""",
    ),
    **_each(
        ANY,
        """Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape ReverseSequence
        Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where""",
    ),
    **_each(BOOLS, "And Not Or Xor"),
    **_each(
        HALVES,
        "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
    ),
    "Attention": (*FLOATS, "INT8", "FLOAT8E4M3FN"),
    "Cast": (*ANY, "UINT8"),
    "CastLike": (*ANY, "UINT8"),
    "Constant": (*ANY, *QUANTIZED),
    "ConstantOfShape": (*ANY, *QUANTIZED),
    "DequantizeLinear": QUANTIZED,
    "Gelu": (*FLOATS, "INT8", *INTS),
    "STFT": ("FLOAT",),
    "TensorScatter": (*FLOATS, "INT32"),
}

# Operators that came later than 10.0: from docs/Changelog.md; those that onnxOpCheckers.cpp of 10.6 has no checker for, and
# the table of 10.15 has, count from 10.15.
SINCE: dict[str, Version] = {
    "DeformConv": (10, 1),
    "BlackmanWindow": (10, 4),
    "HammingWindow": (10, 4),
    "HannWindow": (10, 4),
    "STFT": (10, 5),
    "Attention": (10, 15),
    "RMSNormalization": (10, 15),
    "RotaryEmbedding": (10, 15),
    "TensorScatter": (10, 15),
}

# Inputs that are not the data of the table, by their place. Indices and sizes: the importers convert them to INT32 or INT64
# themselves (Gather: "Int64 indices only supported for Int64 data"); the others by the operator's own meaning.
_REDUCTIONS = tuple(name for name in TYPES if name.startswith("Reduce"))
OTHER_INPUTS: dict[str, dict[int, tuple[str, ...]]] = {
    **{name: {1: INTS} for name in _REDUCTIONS},
    **{
        name: {1: INTS}
        for name in ("CumSum", "Expand", "Reshape", "Split", "Squeeze", "Tile", "TopK", "Trilu", "Unsqueeze")
    },
    **{name: {1: INTS} for name in ("Gather", "GatherElements", "GatherND", "Scatter", "ScatterElements", "ScatterND")},
    "Attention": {3: (*FLOATS, *BOOLS)},
    "ConstantOfShape": {0: INTS},
    "DequantizeLinear": {1: FLOATS, 2: QUANTIZED},
    "Dropout": {1: FLOATS, 2: BOOLS},
    "If": {0: BOOLS},
    "Loop": {0: INTS, 1: BOOLS},
    "NonMaxSuppression": {2: INTS},
    "OneHot": {0: FLOATS + INTS, 1: FLOATS + INTS},
    "Pad": {1: INTS, 3: INTS},
    "QuantizeLinear": {1: FLOATS, 2: QUANTIZED},
    "Resize": {1: FLOATS, 2: ("FLOAT",), 3: INTS},
    "ReverseSequence": {1: INTS},
    "RoiAlign": {2: INTS},
    "RotaryEmbedding": {3: ("INT64",)},
    "STFT": {1: INTS, 3: INTS},
    "Slice": {1: INTS, 2: INTS, 3: INTS, 4: INTS},
    "Upsample": {1: ("FLOAT",)},
    "Where": {0: BOOLS},
    "BlackmanWindow": {0: INTS},
    "HammingWindow": {0: INTS},
    "HannWindow": {0: INTS},
}


@dataclass(frozen=True)
class Attribute:
    """An attribute may have these values alone; `default` is ONNX's."""

    name: str
    allowed: tuple[int | str | tuple[int, ...], ...]
    default: int | str
    source: str


@dataclass(frozen=True)
class Constant:
    """An input is known when the graph is built."""

    index: int
    source: str


@dataclass(frozen=True)
class Zero:
    """A constant input holds zeros alone, as many as input 1 has scales."""

    index: int
    source: str


@dataclass(frozen=True)
class Positive:
    """A constant input is positive in every element."""

    index: int
    source: str


@dataclass(frozen=True)
class PerAxis:
    """A constant input has one element, or one for each step of input 0 along the attribute `axis`."""

    index: int
    default_axis: int
    source: str


@dataclass(frozen=True)
class AtMost:
    """A constant input is no larger."""

    index: int
    limit: int
    source: str


@dataclass(frozen=True)
class Ranks:
    """Inputs have one of these numbers of dimensions."""

    indices: tuple[int, ...]
    allowed: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class SameRank:
    """These inputs have as many dimensions as each other, and none of them is longer than input 0's along any."""

    indices: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class Outputs:
    """No output beyond so many is asked for."""

    most: int
    source: str


Restriction = Attribute | Constant | Zero | Positive | PerAxis | AtMost | Ranks | SameRank | Outputs

_TABLE = "operators.md of 10.15, {0}"
_CHECKERS = "onnxOpCheckers.cpp of 10.6.0, DEFINE_OP_CHECKER({0})"
_QDQ = "onnxOpImporters.cpp of 10.6.0, QuantDequantLinearHelper"
_ZERO, _SCALES = f"{_QDQ}: shiftIsAllZeros; zero point and scale of one volume", f"{_QDQ}: K == scaleSize"
_POOL = "onnxOpCheckers.cpp of 10.6.0, poolingCheckHelper"
_DILATIONS = ((1,), (1, 1), (1, 1, 1))
_NO_DILATIONS = Attribute("dilations", _DILATIONS, "", _POOL)
_RESIZE = _CHECKERS.format("Resize")

RESTRICTIONS: dict[str, tuple[Restriction, ...]] = {
    **{name: (Constant(1, f"{_TABLE.format(name)}: `axes` must be an initializer"),) for name in _REDUCTIONS},
    "AveragePool": (_NO_DILATIONS, Ranks((0,), (3, 4, 5), _TABLE.format("AveragePool: 2D or 3D Pooling only"))),
    "BatchNormalization": (
        Attribute("training_mode", (0,), 0, _CHECKERS.format("BatchNormalization")),
        Outputs(1, _CHECKERS.format("BatchNormalization")),
        Ranks((1, 2, 3, 4), (1,), "onnxOpImporters.cpp of 10.6.0, BatchNormalization: shape must be (C, )"),
    ),
    "CumSum": (Constant(1, _TABLE.format("CumSum: `axis` must be a build-time constant")),),
    "DequantizeLinear": (Zero(2, _ZERO), Positive(1, _QDQ), PerAxis(1, 1, _SCALES)),
    "Gemm": (Ranks((0, 1), (2,), "onnxOpImporters.cpp of about 10.15, Gemm: must have 2D inputs"),),
    "LayerNormalization": (Outputs(1, _CHECKERS.format("LayerNormalization")),),
    "LpNormalization": (Attribute("p", (1, 2), 2, _CHECKERS.format("LpNormalization")),),
    "LpPool": (Attribute("p", (1, 2), 2, _CHECKERS.format("LpPool")), _NO_DILATIONS),
    "MaxPool": (
        Outputs(1, _CHECKERS.format("MaxPool")),
        _NO_DILATIONS,
        Ranks((0,), (3, 4, 5), _TABLE.format("MaxPool: 2D or 3D pooling only")),
    ),
    "QuantizeLinear": (Zero(2, _ZERO), Positive(1, _QDQ), PerAxis(1, 1, _SCALES)),
    "Resize": (
        Attribute("mode", ("nearest", "linear"), "nearest", _TABLE.format("Resize: supported modes")),
        Attribute(
            "coordinate_transformation_mode",
            ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
            "half_pixel",
            _RESIZE,
        ),
        Attribute(
            "nearest_mode",
            ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
            "round_prefer_floor",
            _TABLE.format("Resize: supported nearest modes"),
        ),
        Attribute("antialias", (0,), 0, _RESIZE),
        Attribute("keep_aspect_ratio_policy", ("stretch",), "stretch", _RESIZE),
    ),
    "ScatterElements": (
        SameRank((1, 2), "importerUtils.cpp of about 10.15, addScatterLayer"),
        # other reductions go to a plugin that a Jetson may lack
        Attribute("reduction", ("none",), "none", "onnxOpImporters.cpp of about 10.15, ScatterElements: scatterPluginHelper"),
    ),
    "ScatterND": (
        Attribute("reduction", ("none",), "none", _TABLE.format("ScatterND: `reduction` other than `none`")),
    ),
    "TopK": (
        Attribute("sorted", (1,), 1, _TABLE.format("TopK: `sorted` must be 1")),
        # the table says "less than 3840", TensorRT's operator documentation of 11 "k <= 3840" (TopK, Attributes)
        AtMost(1, 3840, _TABLE.format("TopK")),
    ),
    "Unsqueeze": (Constant(1, _TABLE.format("Unsqueeze: `axes` must be resolvable to a constant")),),
    "Squeeze": (Constant(1, _TABLE.format("Squeeze: `axes` must be resolvable to a constant")),),
}  # fmt: skip

# A tensor of UINT8 may be an input or an output of the network, and nothing between (ModelImporter.cpp, parseNode: "TensorRT
# does not support UINT8 types for intermediate tensors"; operators.md: "UINT8 is only supported as network input or output
# tensor types"); of the operators Cast and CastLike alone have it in their row.
UINT8 = "UINT8"
