"""The bundle: a folder that is all a device needs, and the only thing that passes from training to the device.

    manifest.json            what follows, and what each graph computes
    graphs/*.onnx            trunk, tails, dense reference
    graphs/*.weights         their constants, one file per precision, shared by its graphs
    references.npz           a few frames with the labels that each graph gave for them when it was built
    build.log  parity.csv    how it was built and how close the engine came to PyTorch

Every file is hashed; a bundle is never changed after it is written. What a device compiles
goes to a cache of its own (`edgeprune.base.device`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from edgeprune.base.errors import choose
from edgeprune.base.files import sha256
from edgeprune.base.reading import Strict
from edgeprune.bundle.target import Target
from edgeprune.data.preprocess import PreprocessName

SCHEMA = 4  # 2: one_tail, which no later version writes or reads; 3: buckets.most of the target; 4: preprocess
PREPROCESS_BEFORE = "letterbox"  # up to schema 3 no manifest names it, and a run fitted frames so
MANIFEST = "manifest.json"
MIXED = "mixed"  # the name of a graph set whose buckets are of several precisions
DENSE = "dense"  # the name of the dense FP32 reference among buckets and graphs

# Bounds of what a person or a build ever writes, and a few times more. What must agree with what: `bundle/checks.py`.
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Precision = Literal["fp32", "fp16", "int8"]
Side = Annotated[int, Field(ge=1, le=16384, description="pixels")]
Tokens = Annotated[int, Field(ge=1, le=1 << 20)]
Share = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]


class BucketEntry(Strict):
    """One static bucket."""

    name: Name
    counts: list[Tokens] = Field(max_length=1000, description="tokens of each gated block")
    first: Tokens = Field(description="tokens at the first decision; the smallest bucket that holds the count is taken")
    token_layers: int = Field(ge=1, description="tokens processed, summed over all blocks")


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

    bucket: Name
    precision: Precision
    max_abs: float = Field(ge=0, description="largest difference of a logit")
    label_agreement: Share = Field(description="share of equal labels where the reference's margin exceeds 1e-3")
    excluded: Share = Field(description="share of pixels whose margin does not")
    selection_agreement: Share | None = Field(
        None, description="share of equal token selections, mean over gates; null where nothing is selected"
    )
    frames: int = Field(ge=1)


class Manifest(Strict):
    """`manifest.json`."""

    schema_version: int = Field(ge=1)
    name: Name
    target: Target
    height: Side
    width: Side
    preprocess: PreprocessName = Field(description="how a frame is fitted to height x width, see `data/preprocess.py`")
    label_height: Side
    label_width: Side
    names: list[Name] = Field(min_length=1, max_length=255, description="classes; labels are bytes, 255 is none")
    palette: list[tuple[Byte, Byte, Byte]]
    depth: int = Field(ge=1, le=1000)
    tokens: Tokens = Field(description="tokens of the full grid")
    policy: Name
    precisions: list[str] = Field(min_length=1)
    buckets: list[BucketEntry] = Field(min_length=1, description="smallest first; the last is the full grid")
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
    sizes: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {}, description="bytes of every file: a file of another size is refused before it is read"
    )


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
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest.files = {name: sha256(path) for name, path in files.items()}
    manifest.sizes = {name: path.stat().st_size for name, path in files.items()}
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")


def named_files(manifest: Manifest) -> list[str]:
    """Every file that the manifest speaks of: the graphs, and last the reference frames."""
    graphs = [path for graph_set in manifest.graphs.values() for path in (graph_set.trunk, *graph_set.tails.values())]
    single = (manifest.dense, manifest.stem_head, manifest.references)
    return [path for path in (*graphs, *single) if path is not None]
