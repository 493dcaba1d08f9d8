"""The bundle: a folder that is all a device needs, and the only thing that passes from training to the device.

    manifest.json            what follows, and what each graph computes
    graphs/*.onnx            trunk, tails, dense reference
    graphs/*.weights         their constants, one file per precision, shared by its graphs
    references.npz           a few frames with the labels that each graph gave for them when it was built
    build.log  parity.csv    how it was built and how close the engine came to PyTorch

Every file is hashed; a bundle is never changed after it is written. What a device compiles
goes to a cache of its own (`edgeprune.device`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from edgeprune.config import PreprocessName, Strict, Target, parse
from edgeprune.errors import InputError, choose
from edgeprune.files import sha256

SCHEMA = 4  # 2: one_tail, which no later version writes or reads; 3: buckets.most of the target; 4: preprocess
PREPROCESS_BEFORE = "letterbox"  # up to schema 3 no manifest names it, and a run fitted frames so
MANIFEST = "manifest.json"
MIXED = "mixed"  # the name of a graph set whose buckets are of several precisions
DENSE = "dense"  # the name of the dense FP32 reference among buckets and graphs


class BucketEntry(Strict):
    """One static bucket."""

    name: str
    counts: list[int] = Field(description="tokens of each gated block")
    first: int = Field(description="tokens at the first decision; the smallest bucket that holds the count is taken")
    token_layers: int = Field(description="tokens processed, summed over all blocks")


class GraphSet(Strict):
    """The graphs of one precision: a trunk and a tail per bucket, paths relative to the bundle.

    Without tails nothing is gated: the trunk is the whole network (frame -> labels) and the one bucket is "full".
    """

    trunk: str
    tails: dict[str, str]


def mix(graphs: Mapping[str, GraphSet], trunk: str, tails: Mapping[str, str]) -> tuple[str, GraphSet | None]:
    """The graph set of a choice of precisions: of the trunk, and of each bucket's tail.

    Returns:
        its name, and the set itself where it is none of `graphs`.
    """
    if set(tails.values()) <= {trunk} or not graphs[trunk].tails:
        return trunk, None
    return MIXED, GraphSet(
        trunk=graphs[trunk].trunk, tails={name: graphs[each].tails[name] for name, each in tails.items()}
    )


class ParityRow(Strict):
    """PyTorch against the engine for one bucket, over `frames` real or street frames."""

    bucket: str
    precision: str
    max_abs: float = Field(description="largest difference of a logit")
    label_agreement: float = Field(description="share of equal labels where the reference's margin exceeds 1e-3")
    excluded: float = Field(description="share of pixels whose margin does not")
    selection_agreement: float | None = Field(
        None, description="share of equal token selections, mean over gates; null where nothing is selected"
    )
    frames: int


class Manifest(Strict):
    """`manifest.json`."""

    schema_version: int
    name: str
    target: Target
    height: int
    width: int
    preprocess: PreprocessName = Field(description="how a frame is fitted to height x width, see `data/preprocess.py`")
    label_height: int
    label_width: int
    names: list[str]
    palette: list[tuple[int, int, int]]
    depth: int
    tokens: int = Field(description="tokens of the full grid")
    policy: str
    precisions: list[str]
    buckets: list[BucketEntry] = Field(description="smallest first; the last is the full grid")
    graphs: dict[str, GraphSet] = Field(description="by precision; `mixed` takes each bucket from one of them")
    dense: str | None = Field(None, description="the dense FP32 reference graph: frame -> labels")
    stem_head: str | None = Field(None, description="stem and head without a block: their share of the dense time")
    parity: list[ParityRow]
    lint: list[str] = Field(description="what the graph lint noted")
    accuracy: list[dict[str, Any]] = Field(
        default_factory=list, description="rows of `eval`, where it was run at build"
    )
    engine_choice: list[dict[str, Any]] = Field(
        default_factory=list,
        description="where the target leaves the engine open: what was measured, and why it was taken",
    )
    precision_choice: list[dict[str, Any]] = Field(
        default_factory=list, description="what was measured per bucket and precision, and which of them a run takes"
    )
    run: str | None = Field(
        None, description="the graph set that a run takes unless told; null: INT8 where it is there"
    )
    references: str
    provenance: dict[str, Any]
    files: dict[str, str] = Field(description="SHA-256 of every file but this one")


class Bundle:
    """An opened bundle, verified against its hashes."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.manifest = folder, manifest

    def path(self, relative: str) -> Path:
        return self.folder / relative

    def bucket(self, name: str) -> BucketEntry:
        """Raises InputError with the choices for an unknown name."""
        return choose({entry.name: entry for entry in self.manifest.buckets}, name, "bucket")

    def graphs(self, precision: str) -> GraphSet:
        """Raises InputError with the choices for a precision that was not built."""
        return choose(self.manifest.graphs, precision, "precision")

    def default_precision(self) -> str:
        """What a run takes: what was measured as the fastest, else INT8 where it is there."""
        if self.manifest.run:
            return self.manifest.run
        return "int8" if "int8" in self.manifest.precisions else self.manifest.precisions[0]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Hashes every file of `folder` and writes the manifest beside them."""
    manifest.files = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")


def _named_files(manifest: Manifest) -> list[str]:
    """Every file that the manifest speaks of."""
    graphs = [path for graph_set in manifest.graphs.values() for path in (graph_set.trunk, *graph_set.tails.values())]
    single = (manifest.dense, manifest.stem_head, manifest.references)
    return [path for path in (*graphs, *single) if path is not None]


def open_bundle(folder: Path) -> Bundle:
    """Reads and verifies a bundle.

    Raises:
        InputError: it isn't there, is truncated, was changed, or is of a newer schema.
    """
    path = folder / MANIFEST
    if not path.is_file():
        there = f"{folder} has no {MANIFEST}" if folder.is_dir() else f"{folder} is not there"
        raise InputError(f"no bundle: {there}; make one with `edgeprune build --target onnx-cpu --out {folder}`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"bundle {folder}: {MANIFEST} is damaged ({error}); copy or build the bundle again") from None
    except OSError as error:
        raise InputError(f"bundle {folder}: {MANIFEST} can't be read ({error.strerror})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise InputError(
            f"bundle {folder} has schema {version}, this edgeprune reads up to {SCHEMA}; upgrade edgeprune or build it again"
        )
    if isinstance(content, dict):
        content.pop("one_tail", None)  # older bundles name the graphs of an experiment, which no run ever took
        if isinstance(version, int) and version < 4:
            content.setdefault("preprocess", PREPROCESS_BEFORE)
    manifest = parse(Manifest, content, f"bundle {folder}")
    for relative in _named_files(manifest):
        if relative not in manifest.files:
            raise InputError(f"bundle {folder}: {MANIFEST} has no hash for {relative}; build the bundle again")
    for relative, expected in manifest.files.items():
        file = folder / relative
        if not file.is_file():
            raise InputError(f"bundle {folder} lacks {relative}; copy or build the bundle again")
        if sha256(file) != expected:
            raise InputError(
                f"bundle {folder}: {relative} does not match its hash, it was changed or cut off; copy or build it again"
            )
    return Bundle(folder, manifest)
