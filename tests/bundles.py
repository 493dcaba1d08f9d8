"""A bundle whose graphs are small enough to check by hand.

The frame is H x W, in cells of CELL x CELL pixels, one token each. A token is the mean brightness of its cell; `count`
is how many cells are brighter than BRIGHT. A cell's label is how many of THRESHOLDS it exceeds; every tail adds its own
number, so that a label map tells which tail made it.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune.bundle import BucketEntry, Bundle, GraphSet, Manifest, ParityRow, open_bundle, write_manifest
from edgeprune.bundle.manifest import schema_of
from edgeprune.bundle.runtime_spec import Power, RuntimeSpec
from edgeprune.runtime.engines import Session

H, W, CELL = 32, 48, 8
ROWS, COLUMNS = H // CELL, W // CELL
N = ROWS * COLUMNS
DEPTH = 12
BRIGHT = 100.0
THRESHOLDS = (60.0, 120.0)
NAMES = [f"class{index}" for index in range(8)]
PALETTE = [(30 * index, 255 - 30 * index, 80) for index in range(8)]
BUCKETS = {"quarter": 6, "half": 12, "full": N}  # name -> tokens at the first decision


def cells(frame_HW3: np.ndarray) -> np.ndarray:
    """Mean brightness of each cell, (ROWS, COLUMNS)."""
    means: np.ndarray = frame_HW3.astype(np.float32).mean(-1).reshape(ROWS, CELL, COLUMNS, CELL).mean((1, 3))
    return means


def expected_count(frame_HW3: np.ndarray) -> int:
    return int((cells(frame_HW3) > BRIGHT).sum())


def expected_labels(frame_HW3: np.ndarray, bucket: str) -> np.ndarray:
    return expected_dense(frame_HW3) + list(BUCKETS).index(bucket) + 1


def expected_dense(frame_HW3: np.ndarray) -> np.ndarray:
    steps = np.stack([cells(frame_HW3) > threshold for threshold in THRESHOLDS])
    return np.asarray(steps.sum(0), np.uint8)


def expected_bucket(frame_HW3: np.ndarray) -> str:
    return next(name for name, first in BUCKETS.items() if first >= expected_count(frame_HW3))


def frame_with(bright_cells: int, seed: int = 0) -> np.ndarray:
    """A frame of H x W with that many bright cells and noise that changes no answer."""
    random = np.random.default_rng(seed)
    level = np.full(N, 30)
    level[random.permutation(N)[:bright_cells]] = random.choice([110, 200], bright_cells)
    image_HW = level.reshape(ROWS, COLUMNS).repeat(CELL, 0).repeat(CELL, 1)
    return np.clip(image_HW[..., None] + random.integers(-3, 4, (H, W, 3)), 0, 255).astype(np.uint8)


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> None:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


FRAME = helper.make_tensor_value_info("frame", TensorProto.UINT8, [H, W, 3])
TOKENS = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [N, 1])
SKIP = helper.make_tensor_value_info("skip0", TensorProto.FLOAT, [1, ROWS, COLUMNS])
SCORES = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [N])
COUNT = helper.make_tensor_value_info("count", TensorProto.INT32, [])
LABELS = helper.make_tensor_value_info("labels", TensorProto.UINT8, [ROWS, COLUMNS])

TO_CELLS = [
    helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
    helper.make_node("Reshape", ["float", "cell_shape"], ["split"]),
    helper.make_node("ReduceMean", ["split"], ["means"], axes=[1, 3, 4], keepdims=0),
]
CELL_SHAPE = {"cell_shape": np.array([ROWS, CELL, COLUMNS, CELL, 3])}


def _to_labels(source: str, offset: int) -> tuple[list[Any], dict[str, Any]]:
    """Nodes from cell brightness of any shape to `labels`."""
    nodes = [helper.make_node("Reshape", [source, "label_shape"], ["grid"])]
    total = "offset"
    for index in range(len(THRESHOLDS)):
        nodes += [
            helper.make_node("Greater", ["grid", f"threshold{index}"], [f"over{index}"]),
            helper.make_node("Cast", [f"over{index}"], [f"step{index}"], to=TensorProto.FLOAT),
            helper.make_node("Add", [total, f"step{index}"], [f"sum{index}"]),
        ]
        total = f"sum{index}"
    nodes.append(helper.make_node("Cast", [total], ["labels"], to=TensorProto.UINT8))
    constants = {f"threshold{index}": np.float32(value) for index, value in enumerate(THRESHOLDS)}
    return nodes, constants | {"label_shape": np.array([ROWS, COLUMNS]), "offset": np.float32(offset)}


def write_trunk(path: Path) -> None:
    nodes = [
        *TO_CELLS,
        helper.make_node("Reshape", ["means", "token_shape"], ["tokens"]),
        helper.make_node("Reshape", ["means", "skip_shape"], ["skip0"]),
        helper.make_node("Reshape", ["means", "score_shape"], ["scores"]),
        helper.make_node("Greater", ["scores", "bright"], ["over"]),
        helper.make_node("Cast", ["over"], ["ones"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["ones"], ["count"], keepdims=0),
    ]
    constants = CELL_SHAPE | {
        "token_shape": np.array([N, 1]),
        "skip_shape": np.array([1, ROWS, COLUMNS]),
        "score_shape": np.array([N]),
        "bright": np.float32(BRIGHT),
    }
    _save(path, nodes, [FRAME], [TOKENS, SKIP, SCORES, COUNT], constants)


def write_tail(path: Path, number: int) -> None:
    """A tail that reads the mean of `tokens` and `skip0`, and leaves `scores` out."""
    nodes, constants = _to_labels("halved", number)
    nodes = [
        helper.make_node("Reshape", ["tokens", "as_skip"], ["tokens_as_skip"]),
        helper.make_node("Add", ["tokens_as_skip", "skip0"], ["doubled"]),
        helper.make_node("Mul", ["doubled", "half"], ["halved"]),
        *nodes,
    ]
    constants |= {"as_skip": np.array([1, ROWS, COLUMNS]), "half": np.float32(0.5)}
    _save(path, nodes, [TOKENS, SKIP], [LABELS], constants)


def write_single(path: Path) -> None:
    """A single graph, frame -> labels."""
    nodes, constants = _to_labels("means", 0)
    _save(path, [*TO_CELLS, *nodes], [FRAME], [LABELS], CELL_SHAPE | constants)


def write_bundle(
    folder: Path,
    *,
    precisions: tuple[str, ...] = ("fp32", "int8"),
    gated: bool = True,
    engine: str = "onnxruntime",
    compiled_on_device: bool = False,
    meter: str = "auto",
    region: list[str] | None = None,
    for_budgets: tuple[str, ...] = (),
) -> Bundle:
    """Writes and opens a bundle of the graphs above; one that isn't `gated` has the one bucket `full`. With a `region` the
    manifest says that they process so many cells; buckets `for_budgets` are marked so."""
    most = "".join(region).count("#") if region else N
    graphs = {}
    for precision in precisions:
        trunk = f"graphs/{precision}-trunk.onnx"
        tails = {name: f"graphs/{precision}-tail-{name}.onnx" for name in BUCKETS} if gated else {}
        graphs[precision] = GraphSet(trunk=trunk, tails=tails)
        if gated:
            write_trunk(folder / trunk)
        else:
            write_single(folder / trunk)
        for number, path in enumerate(tails.values(), 1):
            write_tail(folder / path, number)
    for name in ("dense", "stem-head"):
        write_single(folder / f"graphs/{name}.onnx")
    names = (BUCKETS if gated else {}) | {"full": most}
    frame_HW3 = frame_with(3)
    labels = {
        f"{precision}/{name}": (expected_labels(frame_HW3, name) if gated else expected_dense(frame_HW3))[None]
        for precision in precisions
        for name in names
    }
    np.savez(folder / "references.npz", frames=frame_HW3[None], **labels)  # type: ignore[arg-type]
    manifest = Manifest(
        schema_version=schema_of(region, precisions, bool(for_budgets)),
        name="tiny",
        target=RuntimeSpec(
            name="test", engine=engine, compiled_on_device=compiled_on_device, power=Power(meter=meter)
        ),
        height=H,
        width=W,
        preprocess="letterbox",
        label_height=ROWS,
        label_width=COLUMNS,
        names=NAMES,
        palette=PALETTE,
        depth=DEPTH,
        tokens=N,
        region=region,
        policy="svit" if gated else "dense",
        precisions=list(precisions),
        buckets=[
            BucketEntry(
                name=name,
                counts=[first] * 9,
                first=first,
                token_layers=3 * most + 9 * first,
                for_budgets=name in for_budgets,
            )
            for name, first in names.items()
        ],
        graphs=graphs,
        dense="graphs/dense.onnx",
        stem_head="graphs/stem-head.onnx",
        parity=[
            ParityRow(bucket=name, precision=cast(Any, precisions[0]), max_abs=1e-4, label_agreement=1.0, excluded=0.01,
                      selection_agreement=1.0, frames=16)
            for name in names
        ],
        references="references.npz",
        provenance={"commit": "none"},
        files={},
    )  # fmt: skip
    write_manifest(folder, manifest)
    return open_bundle(folder)


def check_answers(session: Session) -> None:
    """Counts and labels of frames with few and many bright cells, bucket after bucket, are those that are known."""
    for bright in (0, 3, 6, 7, 24):
        frame_HW3 = frame_with(bright, seed=bright)
        assert session.start(frame_HW3) == bright
        for name in ("full", "quarter", "half", "quarter"):
            label_HW = session.finish(name)["labels"]
            assert label_HW.dtype == np.uint8
            assert np.array_equal(label_HW, expected_labels(frame_HW3, name))
