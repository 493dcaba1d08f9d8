"""What is fuzzed: for each kind of input its seeds, how they are mutated, and the product's own way to read it.

A target calls what a verb calls. It may return or raise an `EdgepruneError`; anything else is a finding.
"""

import contextlib
import io
import json
import random
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import yaml

from edgeprune.base.errors import EdgepruneError
from edgeprune.base.masking import masked_uri
from edgeprune.base.table import write_json
from edgeprune.bundle import MANIFEST
from edgeprune.bundle.onnx_files import check_external
from edgeprune.bundle.target import load_target
from edgeprune.cli.compare import show_comparison
from edgeprune.cli.config import read_config
from edgeprune.cli.inspect import inspect
from edgeprune.cli.lint import lint_file
from edgeprune.cli.report import show_records
from edgeprune.cli.run import OPTIONS, PLACES, check_options
from edgeprune.cli.show import show_json
from edgeprune.data import open_split
from edgeprune.data.datasets import FolderSplit, load_data_set
from edgeprune.data.lint import lint_split
from edgeprune.data.split import OUTLINED
from edgeprune.evaluate.record_figures import figures_of, ratios
from edgeprune.evaluate.record_rows import read_record
from edgeprune.lab.compare.comparison import Limits, TimingRun, read_comparison
from edgeprune.lab.compare.plan import load_plan
from edgeprune.lab.compare.verdict import conclude
from edgeprune.model.checkpoint import is_checkpoint, save
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.loading import load, read_card
from edgeprune.runtime.cameras import kind_of, open_source
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.sinks.record import Record
from edgeprune.train.recipe_file import load_recipe
from tests import bundles, models
from tests.data.layouts.drawn import LAYOUTS
from tests.fuzz.mutate import Mutate, mutate_bytes, mutate_json, mutate_text, mutate_tree
from tests.lab.compare.rows import measured
from tests.runtime.rows import row

SEEDS = Path(__file__).parent / "seeds"
FRAMES = 8  # of a video
THREADS = 1


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Args:
        seeds: files under `seeds/`, or made by code.
        attempt: reads a mutated file; it is given the file, which keeps its seed's name.
        cases: of 100,000 and more in all.
        words: the command line that reads the same, `FILE`, `FOLDER` or `TEXT` in its place.
    """

    seeds: Callable[[Path], Sequence[Path]]
    mutate: Mutate
    attempt: Callable[[Path], None]
    cases: int
    words: tuple[str, ...]


def _committed(folder: str) -> Callable[[Path], Sequence[Path]]:
    return lambda work: sorted((SEEDS / folder).iterdir())


def _bundle(work: Path) -> Sequence[Path]:
    """The manifests of two tiny bundles, whose graphs lie beside them. A mutated one is written in its place."""
    folders = [work / "gated", work / "plain"]
    for gated, folder in zip((True, False), folders, strict=True):
        if not folder.is_dir():
            bundles.write_bundle(folder, gated=gated)
            content = json.loads((folder / MANIFEST).read_text())
            row = {"bucket": "full", "precision": "int8", "p50_ms": 2.5, "loss_points": None, "chosen": True}
            content["precision_choice"] = [row | {"bucket": "trunk"}, row]
            content["engine_choice"] = [
                {"engine": "onnxruntime", "agreement": 1.0, "p50_ms": 2.5, "chosen": True, "reason": "the fastest"}
            ]
            (folder / MANIFEST).write_text(json.dumps(content))
            shutil.copy(folder / MANIFEST, folder / "seed.json")
    return [folder / "seed.json" for folder in folders]


def _checkpoints(work: Path) -> Sequence[Path]:
    """Headers of models that aren't in the file, and one that is: the narrowest has a megabyte a block, so it is made here."""
    whole = work / "checkpoints" / "whole.safetensors"
    if not whole.is_file():
        card = models.card("svit", depth=2)
        card.model = card.model.model_copy(update={"height": 32, "width": 32})
        save(whole, card, models.model(card).state_dict(), half=True)
    return [*_committed("checkpoint")(work), whole]


def read_manifest(path: Path) -> None:
    """`inspect`, both ways of showing it, and what a run takes of the manifest."""
    folder = path.parent
    path.replace(folder / MANIFEST)
    for as_json in (True, False):
        with contextlib.redirect_stdout(io.StringIO()):
            inspect.callback(bundle=folder, json=as_json)  # type: ignore[misc]


def read_yaml(path: Path) -> None:
    """The reader that the seed's name begins with."""
    READERS[path.stem.split("-")[0]](str(path))


def _read_data(name: str) -> None:
    data_set = load_data_set(name)
    open_split(data_set, "val")


READERS: dict[str, Callable[[str], object]] = {
    "data": _read_data,
    "recipe": load_recipe,
    "target": load_target,
    "calib": lambda name: read_calib(Path(name)),
    "plan": load_plan,
}


# of each layout the file that says the most of it
FOLDER_FILES = {
    "coco polygons": "train/annotations.json",
    "coco compressed": "train/_annotations.coco.json",
    "yolo": "train/labels/a.txt",
    "cvat": "labelmap.txt",
    "roboflow": "train/_classes.csv",
    "lists of stems": "splits/train.txt",
    "lists of pairs": "train.txt",
}


def _folders(work: Path) -> Sequence[Path]:
    """A tiny data set of some layouts; what is mutated is one file of it, which is written in its place."""
    for name in FOLDER_FILES:
        folder = work / "folders" / name.replace(" ", "-")
        if not folder.is_dir():
            LAYOUTS[name].make(folder)
    return [work / "folders" / name.replace(" ", "-") / path for name, path in FOLDER_FILES.items()]


def mutate_folder(draw: random.Random, data: bytes) -> bytes:
    """Of JSON its tree, or any text."""
    if data.startswith(b"{"):
        return mutate_json(draw, data)
    return _as_text(draw, data)


def read_folder(path: Path) -> None:
    """What a verb does with `--data FOLDER`, to the last label; of outlines to the last thing, and what lint says of them."""
    path.replace(path.with_name(path.name.replace("-case", "")))
    folder = next(each for each in path.parents if each.parent.name == "folders")
    data_set = load_data_set(str(folder))
    if isinstance(data_set.train, FolderSplit) and data_set.train.format in OUTLINED:
        lint_split(data_set, "train")
        with contextlib.suppress(EdgepruneError):
            list(open_split(data_set, "train", things=True))
    list(open_split(data_set, "train"))


def mutate_header(draw: random.Random, data: bytes) -> bytes:
    """Of a safetensors file: the card in its header, the header, the values of a tensor, or any byte."""
    (length,) = struct.unpack("<Q", data[:8])
    if draw.random() < 0.15:
        return mutate_bytes(draw, data)
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    if draw.random() < 0.15:
        begin, end = draw.choice([about["data_offsets"] for name, about in header.items() if name != "__metadata__"])
        at = begin + draw.randrange(max(1, end - begin))
        values = draw.choice((b"\xff", b"\0", b"\x7c", b"\x7f", draw.randbytes(1))) * draw.choice((1, 2, 4, 64))
        return data[: 8 + length + at] + values + data[8 + length + at + len(values) :]
    if draw.random() < 0.6:
        card = header["__metadata__"]["edgeprune"].encode()
        header["__metadata__"]["edgeprune"] = mutate_json(draw, card).decode("utf-8", "replace")
        text = json.dumps(header).encode()
    else:
        text = mutate_json(draw, json.dumps(header).encode())
    size = len(text) if draw.random() < 0.9 else draw.choice((0, 2**31, 2**63, len(text) - 1))
    return struct.pack("<Q", size) + text + rest


def read_checkpoint(path: Path) -> None:
    """What `build`, `train` and `ablate` do with a checkpoint."""
    is_checkpoint(path)
    read_card(path)
    load(path)


def read_onnx(path: Path) -> None:
    """`lint FILE`, and `bench --baseline FILE` up to its first frames."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(EdgepruneError):  # it has findings
        lint_file(path, "jetson-orin", True)
    check_external(path)
    ENGINES["onnxruntime"].open_graph(path, THREADS).close()


def read_frames(path: Path) -> None:
    """`run --camera FILE`: some frames of an image or a video."""
    _take(str(path))


def _take(uri: str) -> None:
    source = open_source(uri)
    try:
        for _ in islice(source, FRAMES):
            pass
    finally:
        source.close()


def read_uri(path: Path) -> None:
    """`run --camera URI`, as far as a machine without cameras and network goes."""
    uri = path.read_bytes().decode("utf-8", "surrogateescape").rstrip("\n")
    kind = kind_of(uri)
    if kind == "rtsp":
        masked_uri(uri)
    elif kind == "synthetic" and "height" not in uri and "width" not in uri:  # large ones take seconds
        source = open_source(uri)
        next(iter(source), None)
        source.close()
    elif kind in ("images", "video", "synthetic"):
        open_source(uri).close()


def mutate_yaml(draw: random.Random, data: bytes) -> bytes:
    """Of its text, or of its tree, written as JSON, which is YAML too."""
    if draw.random() < 0.5:
        return _as_text(draw, data)
    return json.dumps(mutate_tree(draw, json.loads(_as_json(data)))).encode()


@cache
def _as_json(data: bytes) -> str:
    return json.dumps(yaml.safe_load(data))


def _as_text(draw: random.Random, data: bytes) -> bytes:
    return mutate_text(draw, data.decode()).encode("utf-8", "surrogatepass")


def _comparisons(work: Path) -> Sequence[Path]:
    """One that is done, of two seeds, two precisions and each kind of row."""
    path = work / "comparisons" / "compare.json"
    if not path.is_file():
        path.parent.mkdir(parents=True)
        rows = [
            measured("dense", "dense", 80, 0.60, 0.61, boundary_f=[0.5, 0.5]),
            measured("svit", "pruned", 30, 0.56, 0.58, boundary_f=[0.45, 0.47], small_things_miou=[0.1, 0.2]),
            measured("net", "peer", 20, 0.58, 0.58, precision="int8"),
            measured("ats", "pruned", None, 0.60, 0.60),
        ]
        timing = TimingRun(1, 2, 1, {}, "no energy sensor")
        write_json(path, conclude({"name": "p"}, timing, rows, Limits(0.5, 25)))
    return [path]


def read_again(path: Path) -> None:
    """`compare compare.json`, both ways of showing it."""
    done = read_comparison(path)
    result = conclude(done.plan, done.timing, done.rows, done.limits)
    with contextlib.redirect_stdout(io.StringIO()):
        show_comparison(result)
        show_json(result)


def _records(work: Path) -> Sequence[Path]:
    """Rows of a run in both formats."""
    folder = work / "records"
    paths = [folder / "rows.csv", folder / "rows.jsonl"]
    for path in paths:
        if not path.is_file():
            record = Record(path)
            for index in range(6):
                things = {"car": index, "a, b": 1} if index else None
                record.write(
                    row(index, name="a,b" if index else None, dropped=index % 2, things=things, live=not index)
                )
            record.close()
    return paths


def mutate_record(draw: random.Random, data: bytes) -> bytes:
    """Of its text, or of its bytes."""
    return _as_text(draw, data) if draw.random() < 0.7 else mutate_bytes(draw, data)


def read_rows(path: Path) -> None:
    """`report FILE`, both ways of showing it."""
    figures = [figures_of(read_record(path))]
    with contextlib.redirect_stdout(io.StringIO()):
        show_records(figures)
        show_json({"records": figures, "ratios": ratios(figures)})


def read_options(path: Path) -> None:
    """`run --config FILE`, up to the bundle."""
    given = read_config(path, OPTIONS, PLACES)
    check_options(OPTIONS(**given))


# BUNDLE is a whole one, FOLDER the one whose manifest was mutated
RUN = ("run", "--bundle", "BUNDLE", "--frames", "2", "--meter", "none", "--out", "overlay.mp4", "--camera")
KINDS: dict[str, Kind] = {
    "manifest": Kind(_bundle, mutate_json, read_manifest, 40_000, ("inspect", "FOLDER")),
    "yaml": Kind(_committed("yaml"), mutate_yaml, read_yaml, 22_000, ("data", "lint", "FILE")),
    "folder": Kind(_folders, mutate_folder, read_folder, 7_000, ("data", "lint", "FILE")),
    "checkpoint": Kind(_checkpoints, mutate_header, read_checkpoint, 10_000, ("build", "--checkpoint", "FILE")),
    "onnx": Kind(_committed("onnx"), mutate_bytes, read_onnx, 6_000, ("lint", "FILE")),
    "image": Kind(_committed("image"), mutate_bytes, read_frames, 16_000, (*RUN, "FILE")),
    "video": Kind(_committed("video"), mutate_bytes, read_frames, 4_000, (*RUN, "FILE")),
    "comparison": Kind(_comparisons, mutate_json, read_again, 2_000, ("compare", "FILE")),
    "record": Kind(_records, mutate_record, read_rows, 4_000, ("report", "FILE")),
    "config": Kind(_committed("config"), mutate_yaml, read_options, 3_000, ("run", "--config", "FILE")),
    "uri": Kind(_committed("uri"), _as_text, read_uri, 8_000, (*RUN, "TEXT")),
}
