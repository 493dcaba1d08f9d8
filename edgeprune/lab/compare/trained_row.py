"""A row of a comparison that is trained and scored, as its `row.json` holds it; and what it was made of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.base.files import sha256
from edgeprune.base.table import OPTIONAL
from edgeprune.bundle import MANIFEST, open_bundle
from edgeprune.bundle.target import load_target
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.lab.compare.spec import Plan
from edgeprune.train.fingerprint import frames_digest

TARGET, FRAMES = "target", "frames"  # keys of `made_of` that rows of earlier versions lack


@dataclass(frozen=True)
class PrecisionScore:
    """What `auto` (of a dense model, its one graph) scores in one precision; `gmacs`: 1e9 multiply-adds of a frame."""

    miou: float | None
    boundary_f: float | None
    token_share: float
    buckets: dict[str, int]
    gmacs: float | None
    small_things_miou: float | None = None
    mask_ap: float | None = field(default=None, metadata=OPTIONAL)
    mask_ap50: float | None = field(default=None, metadata=OPTIONAL)
    mask_ap_small: float | None = field(default=None, metadata=OPTIONAL)
    box_ap: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class TrainedRow:
    """One row with one seed, as its `row.json` holds it.

    Attributes:
        made_of: see `made_of`; of something else it is scored anew.
        policy: its name; of a peer, which has none, the peer's.
        note: why the method has no graphs; None where it has.
        parameters: of the network, quantizers not counted.
        by_engine: of a peer, whose INT8 is another graph in each engine; what is not there is as in `precisions`.
    """

    made_of: dict[str, Any]
    policy: str
    note: str | None
    parameters: int
    precisions: dict[str, PrecisionScore]
    by_engine: dict[str, dict[str, PrecisionScore]] = field(default_factory=dict)

    def covers(self, precisions: Sequence[str], engines: Sequence[str]) -> bool:
        """Whether it was scored in these precisions, and of a peer in these engines."""
        return set(precisions) <= set(self.precisions) and set(engines) <= set(self.by_engine)

    def score(self, precision: str, engine: str | None) -> PrecisionScore | None:
        """In an engine; None: of a row that is not timed, or has no such precision."""
        return self.by_engine.get(engine or "", self.precisions).get(precision)


def read_row(path: Path) -> TrainedRow:
    """A row as it was written."""
    content = json.loads(path.read_text())
    engines = content.pop("by_engine", {})  # of an earlier version: rows had none
    by_engine = {engine: _read_scores(each) for engine, each in engines.items()}
    return TrainedRow(**content | {"precisions": _read_scores(content["precisions"]), "by_engine": by_engine})


def _read_scores(content: Mapping[str, Any]) -> dict[str, PrecisionScore]:
    return {precision: PrecisionScore(**score) for precision, score in content.items()}


def made_of(plan: Plan, name: str, checkpoint: Path) -> dict[str, Any]:
    """What decides a row's scores: the checkpoint, the frames, their files and things, and the target that its graphs are built
    for; those of a peer are made for engines."""
    spec, data_set = plan.score, load_data_set(plan.score.data)
    samples = open_split(data_set, spec.split, spec.include, spec.exclude)
    found = {"checkpoint": sha256(checkpoint), "score": spec.model_dump(), "things": data_set.things}
    found[FRAMES] = frames_digest(data_set, spec.split, samples)
    return found if plan.rows[name].peer else found | {TARGET: load_target(plan.target).sha256()}


def is_made_of(row: TrainedRow, now: Mapping[str, Any], bundle: Path) -> bool:
    """Whether a row was made of this; one of an earlier version, which does not name its target, where its bundle was.

    Args:
        now: from `made_of`.
        bundle: the row's.
    """
    older = {key: now[key] for key in (TARGET, FRAMES) if key in now and key not in row.made_of}
    if row.made_of | older != now:
        return False
    return TARGET not in older or row.note is not None or is_built_from(bundle, now["checkpoint"], now[TARGET])


def is_built_from(bundle: Path, checkpoint: str, target: str, precisions: Sequence[str] = ()) -> bool:
    """Whether a bundle is there and was built from this checkpoint for this target (SHA-256 of both), in these precisions."""
    if not (bundle / MANIFEST).is_file():
        return False
    manifest = open_bundle(bundle).manifest
    built = tuple(manifest.provenance.get(f"{what}_sha256") for what in ("checkpoint", "target"))
    return built == (checkpoint, target) and set(precisions) <= set(manifest.graphs)
