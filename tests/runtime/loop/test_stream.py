"""`edgeprune.open`: what a caller gets, what it takes and gives back, what it loads."""

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import edgeprune
from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras import CameraUnplugged
from edgeprune.runtime.cameras.capture import STALL_S, Reading, open_capture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import ENGINES, Session
from edgeprune.runtime.stream import Stream
from tests import bundles
from tests.runtime.loop.fakes import Scripted, scripted_frame

ROOT = Path(__file__).resolve().parents[3]


class Watched:
    """A session that says whether it was closed."""

    def __init__(self, session: Session):
        self.start, self.finish, self.describe = session.start, session.finish, session.describe
        self.bucket_of, self.reset, self.remembered = session.bucket_of, session.reset, None
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def watched(session: Session) -> Watched:
    return Watched(session)


def stream_of(bundle: Bundle, watched: Watched, source: Any = None) -> Stream:
    chooser = make_chooser("in-frame", bundle.manifest.buckets)
    return Stream(bundle, cast(Session, watched), chooser, open_capture(source) if source else None)


def test_results_of_a_camera(bundle: Bundle, make_png_folder: Callable[[int], Path]) -> None:
    pytest.importorskip("onnxruntime")
    with edgeprune.open(bundle.folder, str(make_png_folder(9)), precision="fp32", threads=1) as stream:
        assert stream.names == bundles.NAMES
        results = list(stream)
    assert [(result.index, result.name) for result in results] == [(index, f"{index:03d}.png") for index in range(9)]
    for index, result in enumerate(results):
        frame_HW3 = scripted_frame(index)
        assert result.bucket == bundles.expected_bucket(frame_HW3)
        coarse_hw = bundles.expected_labels(frame_HW3, result.bucket)
        assert np.array_equal(result.labels, coarse_hw.repeat(bundles.CELL, 0).repeat(bundles.CELL, 1))
        assert result.overlay().shape == result.frame.image_HW3.shape
        facts = result.facts
        stages_ms = facts.fit_ms + facts.trunk_ms + facts.choose_ms + facts.tail_ms
        assert result.latency_ms == pytest.approx(stages_ms, abs=1e-3) and result.latency_ms > 0
        assert facts.token_share == facts.tokens / (bundles.DEPTH * bundles.N)


def test_a_budget_takes_the_smaller_bucket(bundle: Bundle, make_png_folder: Callable[[int], Path]) -> None:
    """No graph of this bundle takes 0.0001 ms, and each takes less than a second."""
    pytest.importorskip("onnxruntime")
    folder = str(make_png_folder(25))
    asked = [bundles.expected_bucket(scripted_frame(index)) for index in range(25)]
    for budget, expected in (("0.0001ms", ["quarter"] * 25), ("1000ms,1fps", asked)):
        with edgeprune.open(bundle.folder, folder, budget=budget, threads=1) as stream:
            facts = [result.facts for result in stream]
        assert [each.asked for each in facts] == asked
        assert [each.bucket for each in facts] == expected


def test_a_bucket_for_budgets_is_taken_by_a_budget_and_by_no_frame(
    make_png_folder: Callable[[int], Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    marked, folder = (
        bundles.write_bundle(tmp_path / "marked", for_budgets=("quarter",)).folder,
        str(make_png_folder(25)),
    )
    alone = [bundles.expected_bucket(scripted_frame(index)) for index in range(25)]
    asked = ["half" if name == "quarter" else name for name in alone]
    assert "quarter" in alone
    for options, expected in (
        ({}, asked),
        ({"budget": "0.0001ms"}, ["quarter"] * 25),
        ({"bucket": "quarter"}, ["quarter"] * 25),
    ):
        with edgeprune.open(marked, folder, threads=1, **options) as stream:
            assert [result.facts.bucket for result in stream] == expected


def test_what_becomes_of_tokens_is_known_for_as_long_as_somebody_asks(
    bundle: Bundle, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later_ns, clock = 0, time.monotonic_ns
    monkeypatch.setattr("edgeprune.runtime.running.time.monotonic_ns", lambda: clock() + later_ns)
    stream = stream_of(bundle, cast(Watched, session))
    frame_HW3 = bundles.frame_with(4, seed=1)
    assert stream.segment(frame_HW3).facts.token_map is None
    assert stream.map_tokens(60.0) and stream.map_tokens(0.0)  # who asks for less takes nothing away
    found = stream.segment(frame_HW3).facts.token_map
    assert found is not None and found.level_GG is not None and found.left == bundles.BUCKETS["quarter"]
    brightest = np.argsort(-bundles.cells(frame_HW3).ravel())[: found.left]
    np.testing.assert_array_equal(np.flatnonzero(found.level_GG), np.sort(brightest))
    later_ns = 61 * 10**9
    assert stream.segment(frame_HW3).facts.token_map is None
    dense = bundles.write_bundle(tmp_path / "dense", gated=False)
    with edgeprune.open(dense.folder, threads=1) as other:
        assert not other.map_tokens(3.0) and other.segment(frame_HW3).facts.token_map is None


def test_labels_are_mapped_back_when_they_are_asked_for(
    bundle: Bundle, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    back = Preprocess.back
    monkeypatch.setattr(Preprocess, "back", lambda *arguments: calls.append(1) or back(*arguments))  # type: ignore[func-returns-value]
    result = stream_of(bundle, watched).segment(np.zeros((70, 90, 3), np.uint8))
    assert not calls
    assert result.labels.shape == (70, 90) and result.labels is result.labels and len(calls) == 1


@pytest.mark.parametrize("then", [None, CameraUnplugged("gone")])
def test_everything_is_given_back_at_the_end_of_the_camera(
    bundle: Bundle, watched: Watched, then: BaseException | None
) -> None:
    stream = stream_of(bundle, watched, Scripted(3, then=then))
    seen = []
    try:
        for result in stream:
            seen.append(result.index)
    except CameraUnplugged as error:
        assert error is then
    assert seen == [0, 1, 2] and watched.closed == 1
    assert isinstance(stream.capture, Reading) and not stream.capture.alive


def test_frames_of_the_callers_own(bundle: Bundle, watched: Watched) -> None:
    with stream_of(bundle, watched) as stream:
        for index in range(3):
            result = stream.segment(scripted_frame(index)[:, ::-1], name=f"cam/{index}")
            assert (result.index, result.name, result.labels.shape) == (index, f"cam/{index}", (bundles.H, bundles.W))
        with pytest.raises(InputError, match="this stream has no camera; open it with camera=..."):
            next(stream)
        for wrong in (np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8), [[1]]):
            with pytest.raises(
                InputError, match=r"a frame of .* was given; uint8 \(height, width, 3\), RGB, is expected"
            ):
                stream.segment(wrong)  # type: ignore[arg-type]
    assert watched.closed == 1


def test_nothing_stays_open_where_opening_fails(
    bundle: Bundle, make_png_folder: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr("edgeprune.runtime.cameras.images.Images.close", lambda source: closed.append(source.uri))
    folder = str(make_png_folder(1))

    def fail(*_: Any, **__: Any) -> None:
        raise InputError("broken")

    for place in ("able", "open"):  # before and after the camera is read
        monkeypatch.setattr(ENGINES["onnxruntime"], place, fail)
        closed.clear()
        with pytest.raises(InputError, match="broken"):
            edgeprune.open(bundle.folder, folder)
        assert set(closed) == {folder}
        monkeypatch.undo()
        monkeypatch.setattr("edgeprune.runtime.cameras.images.Images.close", lambda source: closed.append(source.uri))


def test_importing_edgeprune_loads_nothing_and_opening_no_torch(bundle: Bundle) -> None:
    code = f"""
import sys
import edgeprune
edgeprune.__version__
heavy = ("numpy", "PIL", "pydantic", "torch", "nncf", "onnxruntime", "edgeprune.runtime")
assert not [name for name in heavy if name in sys.modules], sys.modules.keys()
for result in edgeprune.open({str(bundle.folder)!r}, "synthetic://street?height=64&width=96&frames=2"):
    result.labels, result.overlay(), result.latency_ms
assert result.index == 1 and "edgeprune.cli" not in sys.modules
for name in ("torch", "nncf", "onnx", "av", "click"):
    assert name not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert inspect.signature(edgeprune.open).parameters.keys() == {"bundle", "camera", "options"}
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        edgeprune.opne  # noqa: B018


def test_the_readmes_lines_run(bundle: Bundle, make_png_folder: Callable[[int], Path]) -> None:
    """With a bundle, a class and a camera of this test's; the frame of the caller's own is one of its images."""
    [code] = [
        part.split("```")[0]
        for part in (ROOT / "README.md").read_text().split("```python\n")[1:]
        if "edgeprune.open" in part
    ]
    assert 8 <= len(code.splitlines()) <= 14
    code = code.replace("out/bundles/street-tiny-onnx-cpu", str(bundle.folder)).replace('"road"', '"class1"')
    code = code.replace('"synthetic://street?seed=1"', repr(str(make_png_folder(3))))
    names: dict[str, Any] = {"image_HW3": scripted_frame(1)}
    exec(compile(code, "README.md", "exec"), names)
    assert names["result"].latency_ms > 0


@pytest.mark.parametrize(("live", "patience_s"), [(True, STALL_S), (False, None)])
def test_only_a_camera_can_stall(bundle: Bundle, watched: Watched, live: bool, patience_s: float | None) -> None:
    with stream_of(bundle, watched, Scripted(1, live=live)) as stream:
        assert stream.patience_s == patience_s


def test_a_closed_stream_says_so(bundle: Bundle, watched: Watched) -> None:
    stream = stream_of(bundle, watched, Scripted(1))
    assert len(list(stream)) == 1  # its camera ends, and with it what it took
    with pytest.raises(InputError, match="this stream is closed, as it is when its camera ends; open another"):
        stream.segment(scripted_frame(1))


# what `run` refuses, and what no command line can give
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"chooser": "in-fram"}, "unknown bucket chooser 'in-fram'.*did you mean 'in-frame'"),
    ({"bucket": "half", "chooser": "in-frame"}, "--bucket has no use for --chooser; leave one of the two out"),
    ({"bucket": "", "chooser": "in-frame"}, "bucket: string should have at least 1 character"),
    ({"bucket": "half", "budget": "9ms"}, "--budget has no choice where --bucket leaves one bucket; leave one"),
    ({"budget": "fast"}, "--budget 'fast' is no budget; type a number and a unit: 33ms"),
    (
        {"budget": "10W"},
        "held by what a meter shows: frames of `edgeprune.open` are not metered, those of `edgeprune run`",
    ),
    ({"threads": 0}, "edgeprune.open: threads: input should be greater than or equal to 1, found 0"),
    ({"threads": -2}, "threads: input should be greater than or equal to 1, found -2"),
    ({"threads": 257}, "threads: input should be less than or equal to 256"),
    ({"threads": "2"}, "threads: input should be a valid integer, found '2'"),
    ({"threads": True}, "threads: input should be a valid integer, found True"),
    ({"loop": True}, "--loop is of a camera; give one, or leave it out"),
    ({"realtime": True}, "--realtime is of a camera; give one, or leave it out"),
    ({"give_up": "5m"}, "--give-up is of a camera; give one, or leave it out"),
    ({"give_up": -1}, "--give-up '-1' is no duration up to a year"),
    ({"loop": "no", "camera": 0}, "loop: input should be a valid boolean, found 'no'"),
    ({"precision": 8}, "precision: input should be a valid string, found 8"),
    ({"precision": "int4"}, "unknown precision 'int4'; choices: fp32, int8"),
    ({"precision": "fp16"}, "for test holds fp32 and int8, no fp16, which is for GPUs alone; take one of these"),
    ({"precision": "mixed"}, "no mixed, which is there where a mixture was measured to be the fastest"),
    ({"engine": ["onnxruntime"]}, "engine: input should be a valid string"),
    ({"bundle": None}, "None is no bundle; give its folder"),
    ({"bundle": 3}, "3 is no bundle; give its folder"),
    ({"camera": 1.5}, "1.5 is no camera; give 0, /dev/video0, a video file"),
    ({"camera": True}, "True is no camera"),
    ({"camera": np.zeros((2, 2))}, "is no camera"),
    ({"camera": ""}, "'' is no camera"),
]


@pytest.mark.parametrize(("given", "line"), REFUSED)
def test_what_cannot_be_is_one_clear_line(bundle: Bundle, given: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        edgeprune.open(**{"bundle": bundle.folder, **given})


def test_an_unknown_option_is_named(bundle: Bundle) -> None:
    with pytest.raises(edgeprune.InputError, match=r"unknown option 'choser'; choices: .*did you mean 'chooser'"):
        edgeprune.open(bundle.folder, choser="in-frame")
