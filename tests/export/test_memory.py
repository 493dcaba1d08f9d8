"""A bundle that remembers: what is built, and what its graphs answer frame after frame, in every engine that is here."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import edgeprune
from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import MANIFEST, Bundle, open_bundle
from edgeprune.bundle.memory import STILL
from edgeprune.bundle.runtime_spec import Parity
from edgeprune.cli import main
from edgeprune.evaluate.bench import bench
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.export.build import build
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.memory import REFRESH, plan_memory
from edgeprune.export.spec import describe_build, reference_and_export_models
from edgeprune.model.memory import Remembering
from edgeprune.runtime import switching
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.changed import Changed
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.engines.onnxruntime import OnnxRuntime
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.opening import StreamOptions
from edgeprune.runtime.running import Running
from edgeprune.runtime.several.opening import open_several
from tests import models
from tests.export.conftest import small
from tests.runtime.engines.jetson import ENGINE, Jetson, graphs, thor
from tests.runtime.rows import ledger_of, read
from tests.shared import made_once

__all__ = ["thor"]

CPU_ENGINES = ["onnxruntime", "openvino"]
TOKENS = models.N
TAKES_MS = switching._takes_ms
FRAMES = 12


@pytest.fixture(scope="session")
def remembers(inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = small("onnx-cpu", 2).model_copy(update={"parity": Parity(int8=0.9)})
    made = made_once(
        tmp_path_factory,
        "memory",
        lambda folder: build(target, replace(inputs, memory=True), ["int8", "fp32"], folder / "bundle"),
    )
    return open_bundle(made / "bundle")


@pytest.fixture(autouse=True)
def pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether remembering pays hangs on the machine, of graphs as small as these."""
    monkeypatch.setattr(switching, "_takes_ms", lambda running, bucket: 1.0 if running.bundle.remembers else 2.0)


@pytest.fixture(params=CPU_ENGINES)
def session(remembers: Bundle, request: pytest.FixtureRequest) -> Iterator[MemorySession]:
    opened = ENGINES[request.param].open(remembers.with_memory(), "fp32", threads=1)
    assert isinstance(opened, MemorySession)
    with closing(opened):
        yield opened


@pytest.fixture(scope="session")
def torch_side(inputs: BuildInputs) -> Remembering:
    spec = describe_build(small("onnx-cpu", 2), inputs, ["fp32"])
    model, _ = reference_and_export_models(spec.model, "fp32", "onnxruntime")
    return plan_memory(spec.model, spec.frames_FHW3).of(model)


def stream(count: int = FRAMES) -> list[np.ndarray]:
    """Frames in which one patch changes, another each time, with a sensor's noise: without it tokens that stay are equally far
    from what they were, and each side may choose others of them."""
    first, other = models.frames(2)
    drawn, found = np.random.default_rng(0), []
    for number in range(count):
        frame_HW3 = first.copy()
        row, column = 16 * (number % 4), 16 * (number % 6)
        frame_HW3[row : row + 16, column : column + 16] = other[row : row + 16, column : column + 16]
        noisy_HW3 = frame_HW3 + drawn.normal(0, 2, frame_HW3.shape)
        found.append(noisy_HW3.clip(0, 255).astype(np.uint8))
    return found


def test_a_frame_may_leave_a_fifth_of_what_changed_and_the_next_one_computes_all(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose turn it is come first in every bucket, so they are counted whole; nothing is late by two frames."""
    found = Changed(changed=10, due=2)
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.count_changed", lambda scores_N: found)
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


def test_a_manifest_says_what_is_remembered(remembers: Bundle, cpu: Bundle) -> None:
    manifest, memory = remembers.manifest, remembers.manifest.memory
    assert memory is not None and manifest.schema_version == 9
    assert [bucket.first for bucket in memory.buckets] == [0, 8, 16, TOKENS]
    assert [bucket.name for bucket in memory.buckets] == [STILL, "m8", "m16", f"m{TOKENS}"]
    assert memory.nbytes("int8") == 4 * (2 * TOKENS * 192 + 2 * 3 * TOKENS * 192) and memory.refresh == REFRESH
    assert all(row.label_agreement == 1 and row.selection_agreement in (1, None) for row in memory.parity[3:])
    assert {row.bucket for row in memory.parity} == {"m8", "m16", f"m{TOKENS}"}
    assert cpu.manifest.memory is None and cpu.manifest.schema_version < 9
    assert '"memory"' not in (cpu.folder / "manifest.json").read_text()


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
    floats, rest = 2 * 6 * TOKENS * 192, 2 * 2 * TOKENS * 192  # keys and values, and seen and final, of both sets
    took = [session.describe()["memory_mb"] for session in sessions]
    assert took == [round(4 * (floats + rest) / 1e6, 1), round((2 * floats + 4 * rest) / 1e6, 1)]
    equal = []
    for frame_HW3 in stream():
        for session in sessions:
            session.start(frame_HW3)
        one_HW, other_HW = (session.finish("m16")["labels"] for session in sessions)
        equal.append((one_HW == other_HW).mean())
    for session in sessions:
        session.close()
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


@pytest.mark.parametrize("options", [{}, {"bucket": "m8"}, {"budget": "1000ms"}])
def test_after_a_cut_a_frame_is_computed_whole(remembers: Bundle, options: dict[str, str]) -> None:
    first_HW3 = models.frames(1)[0]
    other_HW3 = 255 - first_HW3
    with edgeprune.open(remembers.folder, **options) as opened:
        buckets = [opened.segment(frame_HW3).facts.bucket for frame_HW3 in (first_HW3, first_HW3, other_HW3, other_HW3)]
        shown_HW = opened.segment(other_HW3).labels
    assert buckets[0] == buckets[2] == f"m{TOKENS}" and f"m{TOKENS}" not in (buckets[1], buckets[3])
    with edgeprune.open(remembers.folder, **options) as opened:
        assert np.array_equal(opened.segment(other_HW3).labels, shown_HW)


def test_a_bucket_that_is_none_is_refused_with_all_that_are(remembers: Bundle) -> None:
    own = [bucket.name for bucket in remembers.manifest.buckets]
    with pytest.raises(InputError, match=rf"unknown bucket 'm9'.*{', '.join([*own, 'm8', 'm16'])}"):
        edgeprune.open(remembers.folder, bucket="m9")
    with pytest.raises(InputError, match="unknown bucket 'still'"):  # every frame would be answered as the first
        edgeprune.open(remembers.folder, bucket=STILL)


def test_a_run_takes_the_memory_unless_told(remembers: Bundle) -> None:
    frame_HW3 = models.frames(1)[0]
    with edgeprune.open(remembers.folder) as opened:
        assert [opened.segment(frame_HW3).facts.bucket for _ in range(2)] == [f"m{TOKENS}", STILL]
    with edgeprune.open(remembers.folder, chooser="in-frame") as opened:
        assert opened.segment(frame_HW3).facts.bucket in {bucket.name for bucket in remembers.manifest.buckets}
    with edgeprune.open(remembers.folder, bucket="m8") as opened:
        assert [opened.segment(frame_HW3).facts.bucket for _ in range(2)] == [f"m{TOKENS}", "m8"]
    with edgeprune.open(remembers.folder, budget="1000ms") as opened:
        assert [opened.segment(frame_HW3).facts.bucket for _ in range(2)] == [f"m{TOKENS}", STILL]


def test_on_a_device_the_state_is_in_half_and_never_leaves_it(
    inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory, thor: Jetson
) -> None:
    """On the fake of TensorRT: two sets of device memory, which frames exchange; scores and labels are all that comes back."""
    target = small("jetson-orin", 2).model_copy(update={"parity": Parity(int8=0.9, fp16=0.99)})
    made = made_once(
        tmp_path_factory,
        "memory-orin",
        lambda folder: build(target, replace(inputs, memory=True), ["fp16"], folder / "bundle"),
    )
    bundle = open_bundle(made / "bundle").with_memory()
    assert bundle.manifest.memory
    assert {tensor.type for tensor in bundle.manifest.memory.state["fp16"]} == {"float16"}
    ENGINE.prepare(graphs(bundle, "fp16"))
    with closing(ENGINE.open(bundle, "fp16")) as session:
        first_HW3, second_HW3 = models.frames(2)
        assert session.start(first_HW3) == TOKENS
        first_HW = session.finish("m8")["labels"]
        assert session.start(first_HW3) == 0
        assert np.array_equal(session.finish(STILL)["labels"], first_HW)
        thor.cudart.copies.clear()
        assert session.start(second_HW3) > TOKENS // 2
        second_HW = session.finish("m16")["labels"]
        came = [("in", second_HW3.nbytes), ("in", 8), ("out", 4 * TOKENS), ("out", second_HW.nbytes)]
        assert thor.cudart.copies == came and (first_HW != second_HW).any()


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
    (folder / MANIFEST).write_text(text.replace('"schema_version": 9', '"schema_version": 8'))
    with pytest.raises(InputError, match="a memory in a manifest of schema 8"):
        open_bundle(folder)


def test_which_tokens_are_computed_can_be_seen(remembers: Bundle) -> None:
    frames = stream(3)
    with edgeprune.open(remembers.folder, bucket="m8") as opened:
        assert opened.map_tokens(60)
        maps = [opened.segment(frame_HW3).facts.token_map for frame_HW3 in frames]
    computed = [token_map.level_GG for token_map in maps if token_map]
    assert [level_GG.sum() for level_GG in computed if level_GG is not None] == [TOKENS, 8, 8]
    assert computed[2] is not None and computed[2][2, 2] == 1  # where the patch of this frame is


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a line prints."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["edgeprune", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    return run


def test_show_draws_which_tokens_were_computed(remembers: Bundle, tmp_path: Path, typed: Callable[..., str]) -> None:
    """Those of the highest scores are bright, in the picture after four frames as in each of the clip."""
    shown, large = tmp_path / "frames", 10
    shown.mkdir()
    for number, frame_HW3 in enumerate(stream(6)):
        Image.fromarray(frame_HW3.repeat(large, 0).repeat(large, 1)).save(shown / f"{number}.png")
    computed: list[set[int]] = []
    with edgeprune.open(remembers.folder, shown) as opened:
        opened.map_tokens(600)
        for result in opened:
            assert result.facts.token_map is not None and result.facts.remembered is not None
            order = np.argsort(-result.facts.token_map.scores_S, kind="stable")
            computed.append(set(order[: result.facts.remembered.computed].tolist()))
    assert len(computed[0]) == TOKENS and len(computed[4]) == 8 and computed[4] != computed[3]
    line = ("show", remembers.folder, "--camera", shown)
    summary = json.loads(typed(*line, "--skip", 4, "--out", tmp_path / "a.png", "--json"))
    assert summary["frames"] == 1 and summary["memory"]["computed"] == 8 and summary["memory"]["carried"] == TOKENS - 8
    picture_HW3 = np.asarray(Image.open(tmp_path / "a.png"))
    assert bright(picture_HW3, shown / "4.png") == computed[4]
    said = typed(*line, "--out", tmp_path / "a.mp4")
    mean = np.mean([len(each) for each in computed])
    assert said.startswith("6 frames, ") and f"memory   {mean:.1f} tokens of the grid computed a frame" in said
    clip = list(open_source(str(tmp_path / "a.mp4")))
    assert [bright(frame.image_HW3, shown / f"{number}.png") for number, frame in enumerate(clip)] == computed


def bright(picture_HW3: np.ndarray, frame: Path) -> set[int]:
    """The tokens that are as light in the right half of a picture as in the frame; a bar leaves the middle of each free."""
    frame_HW = np.asarray(Image.open(frame)).astype(float).sum(-1)
    height, width = frame_HW.shape
    assert picture_HW3.shape == (height, 2 * width, 3)
    right_HW, side = picture_HW3[:, width:].astype(float).sum(-1), height // models.GRID[0]
    middle = np.s_[side // 3 : 2 * side // 3]
    found = set()
    for token in range(TOKENS):
        top, left = (place * side for place in divmod(token, models.GRID[1]))
        part = np.s_[top + middle.start : top + middle.stop, left + middle.start : left + middle.stop]
        if right_HW[part].sum() > 0.75 * frame_HW[part].sum():
            found.add(token)
    return found


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_record_says_what_was_computed_and_what_was_carried(
    remembers: Bundle, tmp_path: Path, suffix: str, typed: Callable[..., str]
) -> None:
    still_HW3, other_HW3 = models.frames(2)
    shown, rows, bare = tmp_path / "frames", tmp_path / f"rows{suffix}", tmp_path / f"bare{suffix}"
    shown.mkdir()
    for number, frame_HW3 in enumerate([still_HW3, still_HW3, still_HW3, other_HW3]):
        Image.fromarray(frame_HW3).save(shown / f"{number}.png")
    line = ("run", "--bundle", remembers.folder, "--camera", shown)
    summary, cells = json.loads(typed(*line, "--record", rows, "--json")), read(rows)
    given = [tuple(int(row[name]) for name in ("computed", "carried", "refreshed")) for row in cells]
    assert [computed + carried for computed, carried, _ in given] == [TOKENS] * 4
    assert [row["bucket"] for row in cells[:3]] == [f"m{TOKENS}", STILL, STILL]
    assert given[0][0] == TOKENS and given[1] == given[2] == (0, TOKENS, 0) and given[3][0] > TOKENS // 2
    assert all(refreshed <= computed for computed, _, refreshed in given)
    means = dict(zip(("computed", "carried", "refreshed"), np.mean(given, axis=0), strict=True))
    assert summary["memory"] == {"frames": 4, **means}
    found = ledger_of(cells).memory.figures()
    assert found is not None and vars(found) == summary["memory"]
    assert f"memory   {TOKENS / 3:.1f} tokens of the grid computed a frame" in typed(*line, "--frames", 3)
    assert json.loads(typed(*line, "--chooser", "in-frame", "--json", "--record", bare))["memory"] is None
    assert {row["carried"] for row in read(bare)} <= {"", None}


def test_bench_times_the_buckets_of_the_memory_too(remembers: Bundle) -> None:
    timed = bench(remembers, 1, open_meter("none"), GraphSelection(precisions=["int8"], threads=1), frames=3)
    rows = {row.bucket: row for row in timed.rows if row.graph == "remembered"}
    assert list(rows) == [STILL, "m8", "m16", f"m{TOKENS}"]
    assert all(row.precision == "int8" and row.buckets == {name: 3} for name, row in rows.items())


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


def test_where_its_graphs_could_not_be_compiled_memory_is_left_out(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        OnnxRuntime, "compiled", lambda self, path: None if path.name == "memory-int8-tail-m8.onnx" else {}
    )
    with edgeprune.open(remembers.folder) as opened:
        assert opened.segment(models.frames(1)[0]).facts.bucket in {
            bucket.name for bucket in remembers.manifest.buckets
        }
    assert "memory is left out: memory-int8-tail-m8.onnx is not compiled for this device" in caplog.text


def test_where_it_is_not_faster_memory_is_left_out(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(switching, "_takes_ms", lambda running, bucket: 20.0 if running.bundle.remembers else 17.0)
    with edgeprune.open(remembers.folder) as opened:
        assert opened.segment(models.frames(1)[0]).facts.bucket in {
            bucket.name for bucket in remembers.manifest.buckets
        }
    own = remembers.manifest.buckets[0].name
    words = f"memory is left out: in onnxruntime its m8 takes 20.0 ms here, {own} of a frame by itself 17.0"
    assert words in caplog.text


def test_what_a_frame_takes_is_measured_and_forgotten(remembers: Bundle, session: MemorySession) -> None:
    bundle = remembers.with_memory()
    running = Running(bundle, session, make_chooser("in-frame", bundle.manifest.buckets))
    assert TAKES_MS(running, "m8") > 0
    assert session.start(models.frames(1)[0]) == TOKENS  # nothing of the grey frames is left


def test_cameras_that_share_an_engine_have_no_memory(remembers: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    cameras = {"left": "synthetic://street?seed=1", "right": "synthetic://street?seed=2"}
    caplog.set_level("INFO", logger="edgeprune")
    opened = open_several(remembers, cameras, StreamOptions())
    try:
        frame_HW3 = models.frames(1)[0]
        names = {opened.stream.segment(frame_HW3).facts.bucket for _ in range(2)}
    finally:
        opened.close()
    assert names <= {bucket.name for bucket in remembers.manifest.buckets}
    assert "cameras that share graphs have no memory between frames" in caplog.text


def test_cameras_that_share_graphs_have_none_of_its_buckets(remembers: Bundle) -> None:
    cameras = {"left": "synthetic://street?seed=1", "right": "synthetic://street?seed=2"}
    with pytest.raises(InputError, match="unknown bucket 'm8'"):
        open_several(remembers, cameras, StreamOptions(bucket="m8"))


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


def test_inspect_shows_it(remembers: Bundle, typed: Callable[..., str]) -> None:
    shown = typed("inspect", remembers.folder)
    assert "remembers the frames before (a set of 0.1 MB, each token anew in 128 frames)" in shown
    assert re.search(r"m8 +int8 +24 ", shown)


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
