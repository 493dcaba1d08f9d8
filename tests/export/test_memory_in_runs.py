"""A bundle that remembers, in what one types: runs, cameras, pictures, records, figures."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import edgeprune
from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.bundle.memory import STILL
from edgeprune.evaluate.bench import bench
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.runtime import opening, switching
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines.bound import Outputs
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.engines.onnxruntime import OnnxRuntime
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.opening import StreamOptions
from edgeprune.runtime.running import Running
from edgeprune.runtime.several.opening import open_several
from tests import models
from tests.export.remembering import (
    TAKES_MS,
    TOKENS,
    pays,
    remembers,
    session,
    stream,
    typed,
)
from tests.runtime.rows import ledger_of, read

__all__ = ["pays", "remembers", "session", "typed"]


@pytest.mark.parametrize("options", [{}, {"bucket": "m8"}, {"budget": "1000ms"}])
def test_after_a_cut_a_frame_is_computed_whole(remembers: Bundle, options: dict[str, str]) -> None:
    first_HW3 = models.frames(1)[0]
    other_HW3 = 255 - first_HW3
    with edgeprune.open(remembers.folder, **options) as opened:
        shown = [opened.segment(frame_HW3) for frame_HW3 in (first_HW3, first_HW3, other_HW3, other_HW3)]
        buckets, shown_HW = [result.facts.bucket for result in shown], shown[2].labels
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


def test_where_the_memory_is_left_out_nobody_waits_for_the_next_frame(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no summary says so."""
    with edgeprune.open(remembers.folder, chooser="next-frame") as opened:
        assert opened.chosen_by == "next-frame"
    monkeypatch.setattr(switching, "_takes_ms", lambda running, bucket: 3.0 if running.bundle.remembers else 2.0)
    with edgeprune.open(remembers.folder, chooser="next-frame") as opened:
        assert opened.chosen_by == "in-frame"


def test_what_changed_waits_for_the_next_frame_where_that_was_asked_for(
    remembers: Bundle, cpu: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.is_slight", lambda scores_N: False)
    monkeypatch.setattr("edgeprune.runtime.choose.WAITING", 0.5)  # two tokens of one colour are four of 24
    frames = stream(7)
    with edgeprune.open(remembers.folder, chooser="next-frame") as opened, edgeprune.open(remembers.folder) as at_once:
        late, new = ([one.segment(frame_HW3) for frame_HW3 in frames] for one in (opened, at_once))
    buckets = [result.facts.bucket for result in late]
    assert buckets[0] == f"m{TOKENS}" and set(buckets[1::2]) == {STILL} and set(buckets[2::2]) <= {"m8", "m16"}
    assert STILL not in [result.facts.bucket for result in new]
    assert STILL not in [result.facts.asked for result in late]  # so that a record says which labels are late
    with pytest.raises(InputError, match="next-frame lets what changed wait, and --budget computes less of it"):
        edgeprune.open(remembers.folder, chooser="next-frame", budget="40ms")
    for index in (1, 3, 5):
        assert np.array_equal(late[index].labels, late[index - 1].labels)
    with pytest.raises(
        InputError, match="--chooser next-frame is of a memory between frames, which there is none of here"
    ):
        edgeprune.open(cpu.folder, chooser="next-frame")


def test_what_changed_slightly_waits_unless_a_bucket_was_asked_for(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.is_slight", lambda scores_N: True)
    monkeypatch.setattr("edgeprune.runtime.engines.memory_session.WAITING", 1.0)
    frames = stream(5)
    for options in ({}, {"budget": "1000ms"}, {"chooser": "next-frame"}):
        with edgeprune.open(remembers.folder, **options) as opened:
            facts = [opened.segment(frame_HW3).facts for frame_HW3 in frames]
        assert [each.bucket == STILL for each in facts] == [False, True, False, True, False], options
        assert STILL not in [each.asked for each in facts]  # a record tells labels that are late
    with edgeprune.open(remembers.folder, bucket="m8") as opened:
        assert {opened.segment(frame_HW3).facts.bucket for frame_HW3 in frames} == {"m8", f"m{TOKENS}"}


def test_which_tokens_are_computed_can_be_seen(remembers: Bundle) -> None:
    frames = stream(3)
    with edgeprune.open(remembers.folder, bucket="m8") as opened:
        assert opened.map_tokens(60)
        maps = [opened.segment(frame_HW3).facts.token_map for frame_HW3 in frames]
    computed = [token_map.level_GG for token_map in maps if token_map]
    assert [level_GG.sum() for level_GG in computed if level_GG is not None] == [TOKENS, 8, 8]
    assert computed[2] is not None and computed[2][2, 2] == 1  # where the patch of this frame is


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
    assert summary["chosen_by"] == "in-frame"
    late, one = (json.loads(typed(*line, *how, "--json")) for how in (("--chooser", "next-frame"), ("--bucket", "m8")))
    assert (late["chosen_by"], one["chosen_by"]) == ("next-frame", "m8")
    assert "by next-frame\n" in typed(*line, "--chooser", "next-frame")
    assert json.loads(typed(*line, "--chooser", "in-frame", "--json", "--record", bare))["memory"] is None
    assert {row["carried"] for row in read(bare)} <= {"", None}


def test_bench_times_the_buckets_of_the_memory_too(remembers: Bundle) -> None:
    timed = bench(remembers, 1, open_meter("none"), GraphSelection(precisions=["int8"], threads=1), frames=3)
    rows = {row.bucket: row for row in timed.rows if row.graph == "remembered"}
    assert list(rows) == [STILL, "m8", "m16", f"m{TOKENS}"]
    assert all(row.precision == "int8" and row.buckets == {name: 3} for name, row in rows.items())


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


def test_a_bucket_that_is_not_open_here_is_none_to_compare_with(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT leaves out what was not compiled, or has no room."""
    asked: list[str] = []

    def takes_ms(running: Running, bucket: str) -> float:
        asked.append(bucket)
        return float(len(asked))

    monkeypatch.setattr(switching, "_takes_ms", takes_ms)
    entries = remembers.manifest.buckets
    bound = SimpleNamespace(describe=lambda: {"engine": "tensorrt"})
    alone = SimpleNamespace(bundle=remembers, buckets=[entries[-1].name], session=bound)
    memory = SimpleNamespace(bundle=remembers.with_memory(), buckets=[STILL, "m8"], session=bound)
    assert switching.too_slow(cast(Running, memory), cast(Running, alone)) is None
    assert asked == ["m8", entries[-1].name]


def test_an_engine_that_keeps_nothing_computes_each_frame_by_itself(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that a person adds without `hold`."""
    monkeypatch.setattr(OnnxRuntime, "remembers", False)
    own = {bucket.name for bucket in remembers.manifest.buckets}
    with edgeprune.open(remembers.folder) as opened:
        assert opened.segment(models.frames(1)[0]).facts.bucket in own
    assert "memory is left out: this engine keeps nothing between frames" in caplog.text


def test_without_room_for_both_each_frame_is_computed_by_itself(
    remembers: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begin = opening._begin_one

    def without_room(prepared: Any, *rest: Any) -> Running:
        if prepared.bundle.remembers:
            raise RunError("out of memory")
        return begin(prepared, *rest)

    monkeypatch.setattr(opening, "_begin_one", without_room)
    own = {bucket.name for bucket in remembers.manifest.buckets}
    with edgeprune.open(remembers.folder) as opened:
        assert opened.segment(models.frames(1)[0]).facts.bucket in own
    assert "memory is left out: out of memory" in caplog.text
    with pytest.raises(RunError, match="out of memory"):  # it was asked for
        edgeprune.open(remembers.folder, bucket="m8")


def test_a_run_says_what_its_memory_takes_whichever_way_runs(remembers: Bundle) -> None:
    with edgeprune.open(remembers.folder) as opened:
        running = opened._running
        assert isinstance(running, switching.Switching)
        held_mb = opened.describe()["memory_mb"]
        running._switch(running.alone, "it moves")
        assert opened.describe()["memory_mb"] == held_mb > 0


def test_both_ways_are_held_to_the_references(remembers: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a new bundle under a run are, which is refused where they answer otherwise."""
    finish = MemorySession.finish

    def wrong(session: MemorySession, bucket: str) -> Outputs:
        return {name: array + 1 for name, array in finish(session, bucket).items()}

    with edgeprune.open(remembers.folder) as opened:
        assert isinstance(opened._running, switching.Switching)
        opened._running.check()
        monkeypatch.setattr(MemorySession, "finish", wrong)
        with pytest.raises(InputError, match=rf"m{TOKENS} in int8 gives 0.00% of the labels that the bundle's ref"):
            opened._running.check()


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


def test_nor_has_a_bundle_that_takes_the_place_of_one_without(remembers: Bundle, cpu: Bundle) -> None:
    cameras = {"left": "synthetic://street?seed=1", "right": "synthetic://street?seed=2"}
    opened = open_several(cpu, cameras, StreamOptions(), renewed=True)
    try:
        renewal = opened.stream._renewal
        assert renewal is not None
        with closing(renewal._begin(remembers)) as another:
            assert not isinstance(another, switching.Switching) and not another.bundle.remembers
    finally:
        opened.close()


def test_cameras_that_share_graphs_have_none_of_its_buckets(remembers: Bundle) -> None:
    cameras = {"left": "synthetic://street?seed=1", "right": "synthetic://street?seed=2"}
    with pytest.raises(InputError, match="unknown bucket 'm8'"):
        open_several(remembers, cameras, StreamOptions(bucket="m8"))


def test_inspect_shows_it(remembers: Bundle, typed: Callable[..., str]) -> None:
    shown = typed("inspect", remembers.folder)
    assert "remembers the frames before (a set of 0.1 MB, each token anew in 128 frames)" in shown
    assert re.search(r"m8 +int8 +24 ", shown)
