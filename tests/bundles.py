"""A bundle whose graphs are small enough to check by hand.

The frame is H x W, in cells of CELL x CELL pixels, one token each. A token is the mean brightness of its cell; `count`
is how many cells are brighter than BRIGHT. A cell's label is how many of THRESHOLDS it exceeds; every tail adds its own
number, so that a label map tells which tail made it.

Of the task `instance` each of THINGS is there where a cell is brighter than its threshold: all such cells are one mask,
which overlaps with those of lower thresholds. Its score is what the table says, less a hundredth of the number of the tail that
made it; 0 where there is no cell of it.
"""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeprune.bundle import BucketEntry, Bundle, GraphSet, Manifest, ParityRow, open_bundle, write_manifest
from edgeprune.bundle.references import reference_name
from edgeprune.bundle.runtime_spec import Power, RuntimeSpec
from edgeprune.bundle.schema import schema_of
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


class Drawn(NamedTuple):
    """A thing that the graphs find where cells are brighter than `over`."""

    class_id: int
    over: float
    score: float


# as the graphs have them, not in the order of their scores
THINGS = (Drawn(4, 20.0, 0.3), Drawn(1, 60.0, 0.7), Drawn(2, 150.0, 0.9))
TASKS = {"semantic": ("labels",), "instance": ("classes", "scores", "boxes", "masks")}  # and their outputs


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


def expected_things(frame_HW3: np.ndarray, tail: int = 0) -> dict[str, np.ndarray]:
    """What a graph of the task `instance` answers; `tail`: the number of the one that made it, from 1; 0: a single graph."""
    scores = []
    boxes, masks = [], []
    for thing in THINGS:
        inside = cells(frame_HW3) > thing.over
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        there = bool(len(rows))
        scores.append((thing.score - 0.01 * tail) * there)
        left, top, right, bottom = (
            (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if there else (COLUMNS, ROWS, 0, 0)
        )
        boxes.append((left / COLUMNS, top / ROWS, right / COLUMNS, bottom / ROWS))
        masks.append(255 * inside.astype(np.uint8))
    order = np.argsort(-np.array(scores), kind="stable")
    return {
        "classes": np.array([thing.class_id for thing in THINGS], np.uint8)[order],
        "scores": np.array(scores, np.float32)[order],
        "boxes": np.array(boxes, np.float32)[order],
        "masks": np.array(masks, np.uint8)[order],
    }


def expected_answer(frame_HW3: np.ndarray, bucket: str | None, task: str) -> dict[str, np.ndarray]:
    """By the names of outputs; of the bucket whose tail made it, or of a single graph."""
    if task == "instance":
        return expected_things(frame_HW3, list(BUCKETS).index(bucket) + 1 if bucket else 0)
    return {"labels": expected_labels(frame_HW3, bucket) if bucket else expected_dense(frame_HW3)}


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
ANSWERED = {
    "semantic": [LABELS],
    "instance": [
        helper.make_tensor_value_info("classes", TensorProto.UINT8, [len(THINGS)]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [len(THINGS)]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [len(THINGS), 4]),
        helper.make_tensor_value_info("masks", TensorProto.UINT8, [len(THINGS), ROWS, COLUMNS]),
    ],
}

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


def _to_things(source: str, tail: int) -> tuple[list[Any], dict[str, Any]]:
    """Nodes from cell brightness of any shape to `classes`, `scores`, `boxes` and `masks`, best score first."""
    node = helper.make_node
    nodes = [
        node("Reshape", [source, "label_shape"], ["grid"]),
        node("Greater", ["grid", "over_T11"], ["inside_TRC"]),
        node("Cast", ["inside_TRC"], ["ones_TRC"], to=TensorProto.FLOAT),
        node("ReduceMax", ["ones_TRC"], ["there_T"], axes=[1, 2], keepdims=0),
        node("Mul", ["there_T", "score_T"], ["scored_T"]),
        node("TopK", ["scored_T", "things"], ["scores", "order_T"], axis=0),
        node("Gather", ["class_T", "order_T"], ["classes"], axis=0),
        node("Mul", ["ones_TRC", "most"], ["level_TRC"]),
        node("Cast", ["level_TRC"], ["bytes_TRC"], to=TensorProto.UINT8),
        node("Gather", ["bytes_TRC", "order_T"], ["masks"], axis=0),
    ]
    constants = {
        "label_shape": np.array([ROWS, COLUMNS]),
        "over_T11": np.array([[[thing.over]] for thing in THINGS], np.float32),
        "score_T": np.array([thing.score - 0.01 * tail for thing in THINGS], np.float32),
        "things": np.array([len(THINGS)]),
        "class_T": np.array([thing.class_id for thing in THINGS], np.uint8),
        "most": np.float32(255),
        "nothing": np.float32(0),
        "one": np.array([1]),
    }
    sides = []
    for name, count, shape in (("x", COLUMNS, (1, 1, COLUMNS)), ("y", ROWS, (1, ROWS, 1))):
        constants |= {
            f"{name}_begin": (np.arange(count, dtype=np.float32) / np.float32(count)).reshape(shape),
            f"{name}_end": (np.arange(1, count + 1, dtype=np.float32) / np.float32(count)).reshape(shape),
            f"{name}_far": np.float32(1),
        }
        nodes += [
            node("Where", ["inside_TRC", f"{name}_begin", f"{name}_far"], [f"{name}_begins"]),
            node("ReduceMin", [f"{name}_begins"], [f"{name}_least"], axes=[1, 2], keepdims=0),
            node("Where", ["inside_TRC", f"{name}_end", "nothing"], [f"{name}_ends"]),
            node("ReduceMax", [f"{name}_ends"], [f"{name}_most"], axes=[1, 2], keepdims=0),
        ]
    for name in ("x_least", "y_least", "x_most", "y_most"):
        nodes.append(node("Unsqueeze", [name, "one"], [f"{name}_T1"]))
        sides.append(f"{name}_T1")
    nodes += [
        node("Concat", sides, ["box_T4"], axis=1),
        node("Gather", ["box_T4", "order_T"], ["boxes"], axis=0),
    ]
    return nodes, constants


ANSWERS = {"semantic": _to_labels, "instance": _to_things}


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


def write_tail(path: Path, number: int, task: str = "semantic") -> None:
    """A tail that reads the mean of `tokens` and `skip0`, and leaves `scores` out."""
    nodes, constants = ANSWERS[task]("halved", number)
    nodes = [
        helper.make_node("Reshape", ["tokens", "as_skip"], ["tokens_as_skip"]),
        helper.make_node("Add", ["tokens_as_skip", "skip0"], ["doubled"]),
        helper.make_node("Mul", ["doubled", "half"], ["halved"]),
        *nodes,
    ]
    constants |= {"as_skip": np.array([1, ROWS, COLUMNS]), "half": np.float32(0.5)}
    _save(path, nodes, [TOKENS, SKIP], ANSWERED[task], constants)


def write_single(path: Path, task: str = "semantic") -> None:
    """A single graph, frame -> what the task answers."""
    nodes, constants = ANSWERS[task]("means", 0)
    _save(path, [*TO_CELLS, *nodes], [FRAME], ANSWERED[task], CELL_SHAPE | constants)


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
    task: str = "semantic",
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
            write_single(folder / trunk, task)
        for number, path in enumerate(tails.values(), 1):
            write_tail(folder / path, number, task)
    for name in ("dense", "stem-head"):
        write_single(folder / f"graphs/{name}.onnx", task)
    names = (BUCKETS if gated else {}) | {"full": most}
    frame_HW3 = frame_with(3)
    answers = {
        reference_name(precision, name, output): answer[None]
        for precision in precisions
        for name in names
        for output, answer in expected_answer(frame_HW3, name if gated else None, task).items()
    }
    np.savez(folder / "references.npz", frames=frame_HW3[None], **answers)  # type: ignore[arg-type]
    manifest = Manifest(
        schema_version=schema_of(region, precisions, bool(for_budgets)),
        name="tiny",
        task=task,
        outputs=list(TASKS[task]),
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
