"""What each bucket runs in on a device that compiles its graphs: the fastest precision there that still answers as the bundle's
reference frames do. A bucket that answers in none is dropped, and a frame takes the next larger one. What was chosen goes to
the device's cache, with the compiled graphs that it was chosen for; the bundle never changes.

Shapes: F frames, H W pixels.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.device import cache_folder
from edgeprune.base.errors import EdgepruneError, RunError
from edgeprune.base.files import make_folder, write_atomic
from edgeprune.base.power_mode import power_mode
from edgeprune.bundle import MANIFEST, Bundle, GraphSet, mix, read_references
from edgeprune.runtime.engines import Engine, Session
from edgeprune.runtime.references import TRUNK, Row, agreement_of, chosen_of, hold_mixed

CHOICES = "device.json"
ROUNDS = 20
# by (bucket, or `trunk`, and precision)
Figures = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Choice:
    """What a device chose.

    Attributes:
        rows: {`bucket` (`trunk` for the trunk), `precision`, `p50_ms` (of the bucket: trunk and tail of that precision),
            `agreement` (share of labels equal to the bundle's references), `typing` (how its graph was built), `chosen`}; None
            where it was not compiled.
        dropped: buckets that no run takes, and why.
    """

    rows: list[Row]
    dropped: dict[str, str]

    def lines(self) -> list[str]:
        """What is to be said of it whenever it is taken."""
        return [f"{name} is not used on this device: {reason}" for name, reason in self.dropped.items()]


def graphs_of(bundle: Bundle) -> list[Path]:
    """Every graph that a session of the bundle may open, once."""
    graph_sets = bundle.manifest.graphs.values()
    names = [name for each in graph_sets for name in (each.trunk, *each.tails.values())]
    return [bundle.path(name) for name in dict.fromkeys(names)]


def single_graphs(bundle: Bundle) -> list[Path]:
    """Those that are timed beside the bundle's buckets: the dense reference, stem with head, where it has them."""
    return [bundle.path(name) for name in (bundle.manifest.dense, bundle.manifest.stem_head) if name]


def _graph_of(bundle: Bundle, bucket: str, precision: str) -> Path:
    graphs = bundle.graphs(precision)
    return bundle.path(graphs.trunk if bucket == TRUNK else graphs.tails.get(bucket, graphs.trunk))


def refuse_unusable(bundle: Bundle, engine: Engine, failed: Mapping[Path, EdgepruneError]) -> None:
    """Raises why graphs failed to compile where no precision has both its trunk and the bucket of the full grid.

    Args:
        failed: from `Engine.prepare`.
    """
    full = bundle.manifest.buckets[-1].name
    needed = {each: [_graph_of(bundle, name, each) for name in (TRUNK, full)] for each in bundle.manifest.graphs}
    if not any(all(engine.compiled(path) is not None for path in paths) for paths in needed.values()):
        reasons = [failed[path] for paths in needed.values() for path in paths if path in failed]
        raise reasons[0] if reasons else RunError(f"no graph of {bundle.folder} could be compiled; try again")


def choose_on_device(bundle: Bundle, engine: Engine, say: Callable[[str], None]) -> Choice:
    """Compares and times every precision of every bucket, and keeps the choice in the cache.

    Args:
        bundle: its graphs prepared, as far as they can be.

    Raises:
        RunError: the full grid answers as the references do in no precision.
    """
    names = [bucket.name for bucket in bundle.manifest.buckets]
    frames_FHW3 = read_references(bundle)["frames"]
    agreement: dict[tuple[str, str], float] = {}
    times_ms: dict[tuple[str, str], float] = {}
    trunk_ms: dict[str, list[float]] = {}
    for bucket in names:  # one after the other: a device may not hold all of them in every precision
        with ExitStack() as stack:
            sessions = {
                each: stack.enter_context(closing(engine.open(bundle, each, [bucket], bundle.manifest.target.threads)))
                for each in bundle.manifest.precisions
                if all(engine.compiled(_graph_of(bundle, name, each)) is not None for name in (TRUNK, bucket))
            }
            for each, session in sessions.items():
                agreement[bucket, each] = agreement_of(session, bundle, each, [bucket])[bucket]
            for each, (start_ms, whole_ms) in _time(sessions, bucket, frames_FHW3).items():
                trunk_ms.setdefault(each, []).append(start_ms)
                times_ms[bucket, each] = whole_ms
    times_ms |= {(TRUNK, each): float(np.median(times)) for each, times in trunk_ms.items()}
    choice = _pick(bundle, agreement, times_ms)
    hold_mixed(bundle, engine, choice.rows, say)
    _drop_what_does_not_hold(bundle, choice)
    for row in choice.rows:
        row["typing"] = (engine.compiled(_graph_of(bundle, row["bucket"], row["precision"])) or {}).get("typing")
        if row["chosen"] and row["bucket"] != TRUNK:
            say(f"{row['bucket']}: {row['precision']}, {row['p50_ms']:.2f} ms, {row['agreement']:.2%} equal labels")
    _keep(bundle, engine, choice)
    return choice


def _time(sessions: Mapping[str, Session], bucket: str, frames_FHW3: np.ndarray) -> dict[str, tuple[float, float]]:
    """Median milliseconds of the trunk and of trunk and tail, by precision, the precisions in turn."""
    times: dict[str, list[tuple[float, float]]] = {}
    for index in range(ROUNDS):
        frame_HW3 = frames_FHW3[index % len(frames_FHW3)]
        for precision, session in sessions.items():
            begin = time.perf_counter()
            session.start(frame_HW3)
            middle = time.perf_counter()
            session.finish(bucket)
            end = time.perf_counter()
            times.setdefault(precision, []).append((1e3 * (middle - begin), 1e3 * (end - begin)))
    return {each: tuple(np.median(pairs, axis=0).tolist()) for each, pairs in times.items()}


def _least(bundle: Bundle, precision: str) -> float:
    return float(getattr(bundle.manifest.target.parity, precision))


def _pick(bundle: Bundle, agreement: Figures, times_ms: Figures) -> Choice:
    """The fastest precision of each bucket that agrees. The trunk has one that agrees in the full grid and in most others, and
    of these the fastest over all of them: a tail that does not answer behind a trunk of another precision falls back on it."""
    precisions, full = bundle.manifest.precisions, bundle.manifest.buckets[-1].name
    able: dict[str, list[str]] = {}
    dropped: dict[str, str] = {}
    for bucket in bundle.manifest.buckets:
        name = bucket.name
        able[name] = [each for each in precisions if agreement.get((name, each), -1.0) >= _least(bundle, each)]
        if not able[name]:
            dropped[name] = _why(bundle, name, agreement)
    if full in dropped:
        raise RunError(
            f"bucket {full}, which every frame can fall back on, can't be used here: {dropped[full]}; "
            "`edgeprune compile BUNDLE --again`, or build the bundle again and report both versions"
        )
    kept = [name for name in able if able[name]]

    def cost(each: str) -> tuple[int, float]:
        agreeing = [name for name in kept if each in able[name]]
        return -len(agreeing), sum(times_ms[name, each] for name in agreeing)

    chosen = {TRUNK: min(able[full], key=cost)}
    for name in kept:
        chosen[name] = min(able[name], key=lambda each, name=name: times_ms[name, each] - times_ms[TRUNK, each])  # type: ignore[misc]
    rows: list[Row] = [
        {
            "bucket": name,
            "precision": each,
            "p50_ms": times_ms.get((name, each)),
            "agreement": agreement.get((name, each)),
            "chosen": chosen.get(name) == each,
        }
        for name in (TRUNK, *able)
        for each in precisions
    ]
    return Choice(rows, dropped)


def _why(bundle: Bundle, bucket: str, agreement: Figures) -> str:
    """Why a bucket can't be used."""
    found = {each: agreement.get((bucket, each)) for each in bundle.manifest.precisions}
    said = ", ".join(f"{each} {'not compiled' if share is None else f'{share:.2%}'}" for each, share in found.items())
    if all(share is None for share in found.values()):
        return "it could not be compiled in any precision"
    least = ", ".join(f"{each} {_least(bundle, each):.2%}" for each, share in found.items() if share is not None)
    return f"labels equal to the bundle's references: {said}; at least {least} expected"


def _drop_what_does_not_hold(bundle: Bundle, choice: Choice) -> None:
    """Drops buckets that fell back on the trunk's precision (`hold_mixed`), and do not agree in it."""
    for row in choice.rows:
        if row["chosen"] and row["bucket"] != TRUNK and (row["agreement"] or 0.0) < _least(bundle, row["precision"]):
            figures = {
                (each["bucket"], each["precision"]): each["agreement"]
                for each in choice.rows
                if each["agreement"] is not None
            }
            choice.dropped[row["bucket"]] = (
                f"behind the trunk in {row['precision']} it does not answer; {_why(bundle, row['bucket'], figures)}"
            )
            row["chosen"] = False


# ------------------------------------------------------------------------------------------------ the cache


def _key(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()[:16]


def _read() -> dict[str, Any]:
    try:
        content = json.loads((cache_folder() / CHOICES).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _state(engine: Engine, graph: Path) -> str | None:
    """The compiled form of a graph, by its hash; None where it could not be compiled."""
    about = engine.compiled(graph)
    return None if about is None else str(about.get("sha256", ""))


def _keep(bundle: Bundle, engine: Engine, choice: Choice) -> None:
    graphs = [path.relative_to(bundle.folder).as_posix() for path in graphs_of(bundle)]
    entry = {
        "plans": {name: _state(engine, bundle.path(name)) for name in graphs},
        "power_mode": power_mode(),
        "dropped": choice.dropped,
        "rows": choice.rows,
    }
    make_folder(cache_folder(), "the choice of precisions")
    with write_atomic(cache_folder() / CHOICES, "the choice of precisions") as partial:
        partial.write_text(json.dumps(_read() | {_key(bundle): entry}, indent=1))


def take_choice(bundle: Bundle, engine: Engine) -> Choice | None:
    """Lets `bundle`, as it is opened here, be what this device chose: buckets that were dropped are gone from its manifest, and
    graphs that were not compiled.

    Returns:
        the choice; None where there is none yet, or its graphs were compiled anew since.
    """
    entry = _read().get(_key(bundle))
    if not isinstance(entry, dict) or not {"plans", "rows", "dropped"} <= entry.keys():
        return None
    plans = entry["plans"]
    if any(_state(engine, bundle.path(name)) != state for name, state in plans.items()):
        return None
    choice, manifest = Choice(entry["rows"], entry["dropped"]), bundle.manifest
    gated = any(graphs.tails for graphs in manifest.graphs.values())
    manifest.buckets = [bucket for bucket in manifest.buckets if bucket.name not in choice.dropped]
    for precision, graphs in manifest.graphs.items():
        tails = {name: graphs.tails[name] for name in graphs.tails if name not in choice.dropped}
        compiled = {name: tail for name, tail in tails.items() if plans.get(tail) is not None}
        manifest.graphs[precision] = GraphSet(trunk=graphs.trunk, tails=compiled)
    manifest.run, mixed = mix(manifest.graphs, *chosen_of(choice.rows))
    full = manifest.buckets[-1].name
    for precision, graphs in list(manifest.graphs.items()):
        if plans.get(graphs.trunk) is None or (gated and full not in graphs.tails):
            del manifest.graphs[precision]
    if mixed:
        manifest.graphs[manifest.run] = mixed
    return choice
