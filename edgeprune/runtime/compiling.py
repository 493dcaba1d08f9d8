"""What each bucket runs in on a device that compiles its graphs: the fastest precision there that still answers as the bundle's
reference frames do. A bucket that answers in none is dropped, and a frame takes the next larger one. What was chosen goes to
the device's cache (`kept_choice.py`); the bundle never changes.

Shapes: F frames, H W pixels.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeprune.base.errors import EdgepruneError, RunError
from edgeprune.bundle import Bundle, read_references
from edgeprune.runtime.engines import Engine, Session
from edgeprune.runtime.kept_choice import keep_choice
from edgeprune.runtime.precision_choice import TRUNK, Choice, Measured, fastest, revert_failing_tails, say_chance
from edgeprune.runtime.references import agreement_of

logger = logging.getLogger(__name__)

ROUNDS = 20


def graphs_of(bundle: Bundle) -> list[Path]:
    """Every graph that a session of the bundle, or of its memory, may open, once."""
    memory = bundle.manifest.memory
    graph_sets = [*bundle.manifest.graphs.values(), *(memory.graphs.values() if memory else ())]
    names = [name for each in graph_sets for name in (each.trunk, *each.tails.values())]
    return [bundle.path(name) for name in dict.fromkeys(names)]


def graphs_in(bundle: Bundle, precision: str) -> dict[str, Path]:
    """Of a precision the trunk, by the name TRUNK, and the tails by their buckets."""
    graphs = bundle.graphs(precision)
    return {name: bundle.path(path) for name, path in {TRUNK: graphs.trunk, **graphs.tails}.items()}


def single_graphs(bundle: Bundle) -> list[Path]:
    """Those that are timed beside the bundle's buckets: the dense reference, stem with head."""
    return [bundle.path(name) for name in (bundle.manifest.dense, bundle.manifest.stem_head)]


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


def choose_on_device(bundle: Bundle, engine: Engine) -> Choice:
    """Compares and times every precision of every bucket, and keeps the choice in the cache.

    Args:
        bundle: its graphs prepared, as far as they can be.

    Raises:
        RunError: the full grid answers as the references do in no precision.
    """
    measured = measure(bundle, engine)
    say_chance(measured, f"type `edgeprune compile {bundle.folder} --again`")
    choice = revert_failing_tails(bundle, engine, pick(bundle, measured))
    choice = _drop_what_does_not_answer(bundle, choice)
    for each in choice.measured:
        if each.bucket != TRUNK and choice.is_chosen(each.bucket, each.precision):
            logger.info(f"{each.bucket}: {each.precision}, {each.p50_ms:.2f} ms, {each.agreement:.2%} equal labels")
    keep_choice(bundle, engine, graphs_of(bundle), choice)
    return choice


def measure(bundle: Bundle, engine: Engine) -> list[Measured]:
    """The trunk, then every bucket, in every precision: its time, and how often it answers as the references do."""
    precisions, names = bundle.manifest.precisions, [bucket.name for bucket in bundle.manifest.buckets]
    frames_FHW3 = read_references(bundle)["frames"]
    agreement: dict[tuple[str, str], float] = {}
    times_ms: dict[tuple[str, str], float] = {}
    spreads_ms: dict[tuple[str, str], float] = {}
    trunk_ms: dict[str, list[float]] = {}
    for bucket in names:  # one after the other: a device may not hold all of them in every precision
        with ExitStack() as stack:
            sessions = {
                each: stack.enter_context(closing(engine.open(bundle, each, [bucket], bundle.manifest.target.threads)))
                for each in precisions
                if all(engine.compiled(_graph_of(bundle, name, each)) is not None for name in (TRUNK, bucket))
            }
            for each, session in sessions.items():
                agreement[bucket, each] = agreement_of(session, bundle, each, [bucket])[bucket]
            for each, (start_ms, whole_ms) in _time(sessions, bucket, frames_FHW3).items():
                trunk_ms.setdefault(each, []).append(float(np.median(start_ms)))
                times_ms[bucket, each] = float(np.median(whole_ms))
                spreads_ms[bucket, each] = float(np.subtract(*np.percentile(whole_ms, [75, 25])))
    times_ms |= {(TRUNK, each): float(np.median(times)) for each, times in trunk_ms.items()}
    return [
        Measured(
            bucket,
            each,
            p50_ms=times_ms.get((bucket, each)),
            agreement=agreement.get((bucket, each)),
            typing=(engine.compiled(_graph_of(bundle, bucket, each)) or {}).get("typing"),
            spread_ms=spreads_ms.get((bucket, each), 0.0),
        )
        for bucket in (TRUNK, *names)
        for each in precisions
    ]


def _time(
    sessions: Mapping[str, Session], bucket: str, frames_FHW3: np.ndarray
) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds of the trunk and of trunk and tail in each round, by precision, the precisions in turn."""
    times: dict[str, tuple[list[float], list[float]]] = {precision: ([], []) for precision in sessions}
    for index in range(ROUNDS):
        frame_HW3 = frames_FHW3[index % len(frames_FHW3)]
        for precision, session in sessions.items():
            begin = time.perf_counter()
            session.start(frame_HW3)
            middle = time.perf_counter()
            session.finish(bucket)
            end = time.perf_counter()
            times[precision][0].append(1e3 * (middle - begin))
            times[precision][1].append(1e3 * (end - begin))
    return times


def pick(bundle: Bundle, measured: Sequence[Measured]) -> Choice:
    """The fastest precision of each bucket that agrees. The trunk has one that agrees in the full grid and in most others, and
    of these the fastest over all of them: a tail that does not answer behind a trunk of another precision falls back on it.

    Raises:
        RunError: none agrees in the full grid.
    """
    names = [bucket.name for bucket in bundle.manifest.buckets]
    full, able = names[-1], _able(bundle, measured)
    dropped = {name: _why(bundle, name, measured) for name in names if name not in able}
    if full in dropped:
        raise RunError(
            f"bucket {full}, which every frame can fall back on, can't be used here: {dropped[full]}; "
            "`edgeprune compile BUNDLE --again`, or build the bundle again and report both versions"
        )
    times_ms = {(each.bucket, each.precision): each.p50_ms or 0.0 for each in measured}

    def cost(precision: str) -> tuple[int, float]:
        agreeing = [name for name, precisions in able.items() if precision in precisions]
        return -len(agreeing), sum(times_ms[name, precision] for name in agreeing)

    trunk = min(able[full], key=cost)
    gated = bool(bundle.graphs(trunk).tails)
    return replace(fastest(measured, able if gated else {full: [trunk]}, trunk), dropped=dropped)


def _able(bundle: Bundle, measured: Iterable[Measured]) -> dict[str, list[str]]:
    """The precisions in which a bucket answers as the references do, of the buckets that have one."""
    able: dict[str, list[str]] = {}
    for each in measured:
        if each.agreement is not None and each.agreement >= bundle.manifest.target.parity.least(each.precision):
            able.setdefault(each.bucket, []).append(each.precision)
    return able


def _why(bundle: Bundle, bucket: str, measured: Iterable[Measured]) -> str:
    """Why a bucket can't be used."""
    found = {each.precision: each.agreement for each in measured if each.bucket == bucket}
    said = ", ".join(f"{each} {'not compiled' if share is None else f'{share:.2%}'}" for each, share in found.items())
    if all(share is None for share in found.values()):
        return "it could not be compiled in any precision"
    least = bundle.manifest.target.parity.least
    wanted = ", ".join(f"{each} {least(each):.2%}" for each, share in found.items() if share is not None)
    return f"labels equal to the bundle's references: {said}; at least {wanted} expected"


def _drop_what_does_not_answer(bundle: Bundle, choice: Choice) -> Choice:
    """Drops buckets that fell back on the trunk's precision (`revert_failing_tails`), and do not agree in it."""
    able = _able(bundle, choice.measured)
    dropped = {
        bucket: f"behind the trunk in {precision} it does not answer; {_why(bundle, bucket, choice.measured)}"
        for bucket, precision in choice.tails.items()
        if precision not in able[bucket]
    }
    tails = {bucket: precision for bucket, precision in choice.tails.items() if bucket not in dropped}
    return replace(choice, tails=tails, dropped={**choice.dropped, **dropped})
