"""A bundle that remembers: what is built, and what its graphs answer frame after frame, in every engine that is here."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgeprune
from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import MANIFEST, MIXED, Bundle, GraphSet, open_bundle
from edgeprune.bundle.memory import STILL, group_tokens
from edgeprune.export.build import build
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.memory import REFRESH
from edgeprune.model.memory import Remembering
from edgeprune.runtime.changed import Changed
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.first_decision import FirstDecision
from tests import models
from tests.export.conftest import small
from tests.export.remembering import (
    CPU_ENGINES,
    TOKENS,
    pays,
    remembers,
    session,
    stream,
    torch_side,
)

__all__ = ["pays", "remembers", "session", "torch_side"]


def test_a_frame_may_leave_a_fifth_of_what_changed_and_the_next_one_computes_all(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose turn it is come first in every bucket, so they are counted whole; nothing is late by two frames."""
    found = Changed(changed=10, due=2)
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.count_changed", lambda scores_N, tokens_GM: [found])
    frames = stream(6)
    with closing(ENGINES["onnxruntime"].open(remembers.with_memory(), "fp32", threads=1)) as session:
        assert session.start(frames[0]) == TOKENS  # nothing is remembered yet
        session.finish("m8")
        assert session.start(frames[1]) == 2 + 8
        session.finish("m8")
        assert session.start(frames[2]) == 2 + 10
        session.finish("m16")
        assert session.start(frames[3]) == 2 + 8
        session.finish("m8")
        session.reset()
        session.start(frames[4])
        session.finish("m8")
        assert session.start(frames[5]) == 2 + 8  # what was left out before it forgot is nothing any more


def test_as_many_tokens_of_each_group_as_the_one_that_needs_the_most(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Changed(1, 1), Changed(5, 2)]
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.count_changed", lambda scores_N, tokens_GM: found)
    frames = stream(4)
    with closing(ENGINES["onnxruntime"].open(remembers.with_memory(), "fp32", threads=1)) as session:
        assert session.start(frames[0]) == TOKENS
        session.finish("m8")
        assert session.start(frames[1]) == 2 * (2 + 4)
        session.finish("m8")  # four of each group, where one has seven
        assert session.start(frames[2]) == 2 * (2 + 5)
        session.finish("m16")
        assert session.start(frames[3]) == 2 * (2 + 4)


def test_a_token_map_shows_as_many_of_each_group(remembers: Bundle) -> None:
    decision = FirstDecision.remembered(remembers.with_memory().manifest)
    assert decision is not None and decision.groups == 2
    level_GG = decision.levels(np.arange(TOKENS, dtype=np.float32), "m8")
    assert level_GG is not None
    for group_M in group_tokens(decision.grid, 2):
        assert level_GG.ravel()[group_M].tolist() == [0] * (len(group_M) - 4) + [1] * 4


def test_a_manifest_says_what_is_remembered(remembers: Bundle, cpu: Bundle) -> None:
    manifest, memory = remembers.manifest, remembers.manifest.memory
    assert memory is not None and manifest.schema_version == 10 and memory.groups == 2
    assert [bucket.first for bucket in memory.buckets] == [0, 8, 16, TOKENS]
    assert [bucket.name for bucket in memory.buckets] == [STILL, "m8", "m16", f"m{TOKENS}"]
    assert memory.nbytes("int8") == 4 * (2 * TOKENS * 192 + 2 * 3 * TOKENS // 2 * 192) and memory.refresh == REFRESH
    assert all(row.label_agreement == 1 and row.selection_agreement in (1, None) for row in memory.parity[3:])
    assert {row.bucket for row in memory.parity} == {"m8", "m16", f"m{TOKENS}"}
    assert cpu.manifest.memory is None and cpu.manifest.schema_version < 9
    assert '"memory"' not in (cpu.folder / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("run", "taken"), [(None, "int8"), ("int8", "int8"), ("fp32", "fp32"), (MIXED, "fp32"), ("fp16", "int8")]
)
def test_a_run_takes_the_memory_in_the_precision_of_its_own_graphs(
    remembers: Bundle, run: str | None, taken: str
) -> None:
    """Of a mixture in that of the bucket of all tokens; in the default where it was not built in that one."""
    built = remembers.manifest.graphs
    tails = built["int8"].tails | {"full": built["fp32"].tails["full"]}
    mixed = GraphSet(trunk=built["int8"].trunk, tails=tails)
    bundle = remembers.seen_with(run=run, graphs={**built, MIXED: mixed})
    assert bundle.with_memory().default_precision() == taken


def test_answers_are_those_of_pytorch_frame_after_frame(session: MemorySession, torch_side: Remembering) -> None:
    state = None
    for number, frame_HW3 in enumerate(stream()):
        asked = "m8" if number % 3 else "m16"
        count = session.start(frame_HW3)
        due_2 = torch.tensor(session.waiting, dtype=torch.float32)
        bucket = session.bucket_of(asked)
        labels_HW = session.finish(asked)["labels"]
        with torch.no_grad():
            seen_ND = torch.zeros(TOKENS, 192) if state is None else state.seen_ND
            x_ND, skips, score_N = torch_side.trunk(torch.from_numpy(frame_HW3), seen_ND, due_2)
            if state is None:
                assert (count, bucket) == (TOKENS, f"m{TOKENS}")
                state = torch_side.whole(x_ND)
            else:
                assert bucket == asked
                state, _ = torch_side.some(x_ND, score_N, state, int(asked[1:]))
            expected_HW = torch_side.model.head.decide(torch_side.answer(state, skips))[0].numpy()
        assert (labels_HW == expected_HW).mean() > 0.999, number


def test_a_frame_like_the_one_before_computes_nothing(session: MemorySession) -> None:
    first_HW3, second_HW3 = models.frames(2)
    assert session.start(first_HW3) == TOKENS
    labels_HW = session.finish(f"m{TOKENS}")["labels"]
    answered_HW = labels_HW.copy()
    labels_HW[:] = 7  # a caller's own
    assert session.start(first_HW3) == 0
    assert np.array_equal(session.finish(STILL)["labels"], answered_HW) and (answered_HW != 7).any()
    assert session.start(second_HW3) > TOKENS // 2


def test_bf16_keeps_what_is_attended_to_in_bf16(remembers: Bundle) -> None:
    library = pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    if "BF16" not in library.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("needs a CPU with bf16")
    sessions = [
        ENGINES[name].open(remembers.with_memory(), "fp32", threads=1) for name in ("openvino", "openvino-bf16")
    ]
    floats, rest = 2 * 6 * TOKENS // 2 * 192, 2 * 2 * TOKENS * 192  # keys and values, and seen and final, of both sets
    took = [session.describe()["memory_mb"] for session in sessions]
    assert took == [round(4 * (floats + rest) / 1e6, 1), round((2 * floats + 4 * rest) / 1e6, 1)]
    equal = []
    for frame_HW3 in stream():
        for opened in sessions:
            opened.start(frame_HW3)
        one_HW, other_HW = (opened.finish("m16")["labels"] for opened in sessions)
        equal.append((one_HW == other_HW).mean())
    for opened in sessions:
        opened.close()
    assert min(equal) > 0.95


def test_every_token_has_its_turn_where_nothing_changes(session: MemorySession) -> None:
    frame_HW3 = models.frames(1)[0]
    session.start(frame_HW3)
    session.finish(f"m{TOKENS}")
    computed, counts = 0, []
    for _ in range(REFRESH):
        count = session.start(frame_HW3)
        counts.append(count)
        session.finish("m16" if count else STILL)
        computed += count
    assert TOKENS - 16 <= computed <= TOKENS and 0 in counts


@pytest.mark.parametrize("bucket", ["m8", STILL])
def test_without_a_state_a_frame_is_computed_whole(
    session: MemorySession, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_HW3, second_HW3 = models.frames(2)
    session.start(second_HW3)
    whole_HW = session.finish(bucket)["labels"]
    session.start(first_HW3)
    tail = session._bound["m8"][session._side]

    def fails(given: object) -> None:
        raise RunError("no memory")

    monkeypatch.setattr(tail, "run", fails)
    with pytest.raises(RunError, match="no memory"):
        session.finish("m8")
    if len(session._sets) == 2:  # the state of the frame before is whole
        assert session.bucket_of("m8") == "m8" and session.start(second_HW3) == 0
        assert np.array_equal(session.finish(STILL)["labels"], whole_HW)
        session.reset()
    assert session.start(second_HW3) == TOKENS and session.bucket_of(bucket) == f"m{TOKENS}"
    assert np.array_equal(session.finish(bucket)["labels"], whole_HW)
    session.reset()
    assert session.start(second_HW3) == TOKENS


def test_what_changes_slightly_waits_for_the_next_frame(
    session: MemorySession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no longer: of two frames in a row one is computed."""
    first_HW3, second_HW3 = models.frames(2)
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.WAITING", 1.0)
    session.start(first_HW3)
    labels_HW = session.finish(f"m{TOKENS}")["labels"]
    for _ in range(2):
        monkeypatch.setattr("edgeprune.runtime.engines.memory_session.is_slight", lambda scores_N: True)
        assert session.start(second_HW3) > 0 and session.waits
        assert np.array_equal(session.finish(STILL)["labels"], labels_HW)
        assert session.start(second_HW3) > 0 and not session.waits
        session.finish(f"m{TOKENS}")
        monkeypatch.setattr("edgeprune.runtime.engines.memory_session.is_slight", lambda scores_N: False)
        assert session.start(first_HW3) > 0 and not session.waits
        labels_HW = session.finish(f"m{TOKENS}")["labels"]


def test_two_streams_do_not_mix(remembers: Bundle, session: MemorySession) -> None:
    frames = stream(6)
    with closing(ENGINES["onnxruntime"].open(remembers.with_memory(), "fp32", threads=1)) as other:
        for frame_HW3, their_HW3 in zip(frames, models.frames(6), strict=True):
            session.start(frame_HW3)
            ours = session.finish("m16")["labels"]
            other.start(their_HW3)
            other.finish("m16")
    session.reset()
    for frame_HW3 in frames:
        session.start(frame_HW3)
        alone = session.finish("m16")["labels"]
    assert np.array_equal(ours, alone)


def first_bucket(memory: Any) -> Any:
    return memory["buckets"][0]


CONTRADICTIONS: dict[str, tuple[Callable[[Any], object], str]] = {
    "another first": (lambda memory: first_bucket(memory).update(name="m0"), "first bucket of its memory is 'm0' of 0"),
    "tokens that stand": (lambda memory: first_bucket(memory).update(first=3), "is 'still' of 3 tokens"),
    "a name twice": (lambda memory: memory["buckets"][1].update(name="full"), "bucket 'full' is there twice"),
    "out of order": (
        lambda memory: memory["buckets"][1].update(first=20),
        "'m8' of its memory holds 20 tokens, 24 over",
    ),
    "not all": (lambda memory: memory["buckets"].pop(), "holds 16 tokens, expected all, 24"),
    "no state": (
        lambda memory: memory["state"].pop("int8"),
        "graphs of 'int8', which is none of its precisions, or has no",
    ),
    "no tail": (
        lambda memory: memory["graphs"]["int8"]["tails"].pop("m8"),
        "the tails of its memory in int8 are of 'm16'",
    ),
    "a huge state": (
        lambda memory: memory["state"]["int8"][0].update(shape=[1 << 24, 1 << 24]),
        "its memory takes 1,125,899,",
    ),
    "a shape below nothing": (
        lambda memory: memory["state"]["int8"][0].update(shape=[-1]),
        "greater than or equal to 1",
    ),
    "a tensor twice": (lambda memory: memory["state"]["int8"][0].update(name="final"), "tensor 'final' is there twice"),
    "a bucket of odd size": (
        lambda memory: memory["buckets"][1].update(first=7, token_layers=21),
        "bucket 'm8' of its memory holds 7 tokens of 2 groups",
    ),
    "three groups": (lambda memory: memory.update(groups=3), "groups"),
    "no graphs": (lambda memory: memory["graphs"].clear(), "its memory has no graphs"),
    "parity of none": (lambda memory: memory["parity"][0].update(bucket="k8"), "a parity row of 'k8' in int8"),
    "a path that leads out": (
        lambda memory: memory["graphs"]["int8"].update(trunk="../trunk.onnx"),
        "is no path inside the bundle|it has no hash for",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_memory_that_contradicts_itself_is_refused(remembers: Bundle, tmp_path: Path, name: str) -> None:
    how, words = CONTRADICTIONS[name]
    folder = tmp_path / "bundle"
    shutil.copytree(remembers.folder, folder)
    content = json.loads((folder / MANIFEST).read_text())
    how(content["memory"])
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        open_bundle(folder)


def test_an_older_schema_has_no_memory(remembers: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(remembers.folder, folder)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"schema_version": 10', '"schema_version": 8'))
    with pytest.raises(InputError, match="a memory in a manifest of schema 8"):
        open_bundle(folder)


def test_a_memory_from_before_groups_is_read_as_one_of_all(remembers: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(remembers.folder, folder)
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {"schema_version": 9}))
    with pytest.raises(InputError, match="groups of tokens in a manifest of schema 9"):
        open_bundle(folder)
    del content["memory"]["groups"]
    (folder / MANIFEST).write_text(json.dumps(content | {"schema_version": 9}))
    memory = open_bundle(folder).manifest.memory
    assert memory is not None and memory.groups == 1


def test_turns_that_were_taken_are_counted(session: MemorySession) -> None:
    frame_HW3, _ = models.frames(2)
    refreshed = 0
    for _ in range(REFRESH):
        wanted = session.start(frame_HW3)
        session.finish("m16" if wanted else STILL)
        found = session.remembered
        assert found is not None and found.computed + found.carried == TOKENS and found.refreshed <= found.computed
        refreshed += found.refreshed
    assert TOKENS - 16 <= refreshed <= TOKENS


MISFITS: dict[str, Callable[[Any], object]] = {
    "a trunk that remembers nothing": lambda memory: memory["graphs"]["int8"].update(trunk="graphs/int8-trunk.onnx"),
    "another shape": lambda memory: memory["state"]["int8"][2].update(shape=[7, 64]),
    "another type": lambda memory: memory["state"]["int8"][2].update(type="float16"),
}


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize("name", MISFITS)
def test_graphs_that_do_not_fit_the_state_are_refused(
    remembers: Bundle, tmp_path: Path, name: str, engine: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(remembers.folder, folder)
    content = json.loads((folder / MANIFEST).read_text())
    MISFITS[name](content["memory"])
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises((InputError, RunError), match=r"build (the bundle|it) again|can't run .*memory-int8"):
        session = ENGINES[engine].open(open_bundle(folder).with_memory(), "int8", threads=1)
        session.close()


def test_a_region_is_refused_before_anything_is_exported(inputs: BuildInputs, tmp_path: Path) -> None:
    assert inputs.calib
    rows = ["######"] * 2 + ["......"] * 2
    region = replace(inputs, memory=True, calib=inputs.calib.model_copy(update={"region": rows}))
    with pytest.raises(
        InputError, match="--memory is for models of the whole grid and nothing else, this one has a region"
    ):
        build(small("onnx-cpu", 2), region, ["fp32"], tmp_path / "bundle")


def test_a_bundle_without_memory_says_so(cpu: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was built without memory; build it with --memory"):
        cpu.with_memory()
    with pytest.raises(InputError, match="unknown bucket 'm8'"):
        edgeprune.open(cpu.folder, bucket="m8")
