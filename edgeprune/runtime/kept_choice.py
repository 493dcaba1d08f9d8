"""The precisions that a device chose for a bundle, kept in its cache with the compiled graphs that they were chosen for."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeprune.base.device import cache_folder
from edgeprune.base.files import make_folder, write_atomic
from edgeprune.base.power_mode import power_mode
from edgeprune.base.reading import Strict
from edgeprune.bundle import MANIFEST, Bundle, GraphSet
from edgeprune.runtime.engines import Engine
from edgeprune.runtime.precision_choice import TRUNK, Choice, Measured

CHOICES = "device.json"
LOCK = ".device.lock"


class KeptRow(Strict, strict=True):
    """A row of a kept choice: one precision of a bucket, or of the trunk."""

    bucket: str
    precision: str
    p50_ms: float | None
    agreement: float | None
    typing: str | None = None
    chosen: bool


class Kept(Strict, strict=True):
    """What the cache holds of a bundle. `plans`: the hash of each graph's compiled form."""

    plans: dict[str, str | None]
    power_mode: Any = None
    dropped: dict[str, str]
    rows: list[KeptRow]


def keep_choice(bundle: Bundle, engine: Engine, graphs: Sequence[Path], choice: Choice) -> None:
    """Writes the choice to the cache. `graphs`: those whose compiled forms it holds for."""
    entry = {
        "plans": {path.relative_to(bundle.folder).as_posix(): _state(engine, path) for path in graphs},
        "power_mode": power_mode(),
        "dropped": dict(choice.dropped),
        "rows": choice.rows("agreement", "typing"),
    }
    what = "the choice of precisions"
    make_folder(cache_folder(), what)
    with _alone(), write_atomic(cache_folder() / CHOICES, what, shared=True) as partial:
        partial.write_text(json.dumps(_read() | {_key(bundle): entry}, indent=1))


@contextmanager
def _alone() -> Iterator[None]:
    """Waits until no other process adds its choice: what is read inside is whole when it is written again."""
    with (cache_folder() / LOCK).open("ab") as lock:
        with suppress(OSError):  # a disk of the network that knows no locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # closing it lets it go
        yield


def kept_choice(bundle: Bundle, engine: Engine) -> Choice | None:
    """What this device chose; None where there is nothing yet, or its graphs were compiled anew since."""
    try:
        entry = Kept.model_validate(_read().get(_key(bundle)))
    except ValidationError:  # nothing yet, or what no version wrote
        return None
    chosen = {row.bucket: row.precision for row in entry.rows if row.chosen}
    manifest = bundle.manifest
    if TRUNK not in chosen or not set(chosen.values()) <= set(manifest.precisions):
        return None
    if not entry.plans.keys() <= manifest.files.keys():
        return None
    if {bucket.name for bucket in manifest.buckets} <= entry.dropped.keys():
        return None
    if any(_state(engine, bundle.path(name)) != state for name, state in entry.plans.items()):
        return None
    measured = [
        Measured(row.bucket, row.precision, row.p50_ms, agreement=row.agreement, typing=row.typing)
        for row in entry.rows
    ]
    return Choice(chosen.pop(TRUNK), chosen, measured, entry.dropped)


def failed_before(bundle: Bundle) -> set[Path]:
    """The graphs that this device could not compile when it chose: they are not tried at each start."""
    try:
        entry = Kept.model_validate(_read().get(_key(bundle)))
    except ValidationError:
        return set()
    return {bundle.path(name) for name, state in entry.plans.items() if state is None}


def as_chosen(bundle: Bundle, engine: Engine, choice: Choice) -> Bundle:
    """The bundle as this device runs it: without the buckets that were dropped and the graphs that were not compiled."""

    def compiled(name: str) -> bool:
        return engine.compiled(bundle.path(name)) is not None

    built = bundle.manifest.graphs
    gated = any(graphs.tails for graphs in built.values())
    buckets = [bucket for bucket in bundle.manifest.buckets if bucket.name not in choice.dropped]
    full = buckets[-1].name
    left = {}
    for precision, graphs in built.items():
        tails = {name: path for name, path in graphs.tails.items() if name not in choice.dropped and compiled(path)}
        left[precision] = GraphSet(trunk=graphs.trunk, tails=tails)
    usable = {
        precision: graphs
        for precision, graphs in choice.graphs(left).items()
        if compiled(graphs.trunk) and (full in graphs.tails or not gated)
    }
    return bundle.seen_with(buckets=buckets, graphs=usable, run=choice.run)


def _key(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()[:16]


def _read() -> dict[str, Any]:
    try:
        content = json.loads((cache_folder() / CHOICES).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _state(engine: Engine, graph: Path) -> str | None:
    """The compiled form of a graph, by its hash; None where it could not be compiled."""
    about = engine.compiled(graph)
    return None if about is None else str(about.get("sha256", ""))
