"""The loop of several cameras: records, totals, budget, and what is left when one fails."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base import ending
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.statistics import percentiles
from edgeprune.bundle import Bundle
from edgeprune.runtime.budget.start import start_governor
from edgeprune.runtime.budget.wanted import parse_budget
from edgeprune.runtime.cameras import SOURCES, CameraKind, Wanted
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.cameras.source import CameraAway, CameraUnplugged, FrameSource
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.opening import StreamOptions
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.run import Limits
from edgeprune.runtime.several import run as run_module
from edgeprune.runtime.several.names import outputs_of_cameras
from edgeprune.runtime.several.opening import Opened, open_several
from edgeprune.runtime.several.run import run_several
from edgeprune.runtime.several.summary import SeveralOutcome
from edgeprune.runtime.several.turns import Turn, Turns
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.summary import summarise_run
from edgeprune.runtime.tasks import Result
from tests import bundles
from tests.runtime.loop.fakes import WAIT_S, CountingMeter, Scripted, scripted_frame
from tests.runtime.loop.test_renewal import Place, place
from tests.runtime.rows import ledger_of, read
from tests.runtime.several.cameras import Simulated

__all__ = ["place"]

Start = Callable[..., SeveralOutcome]


@pytest.fixture
def start(bundle: Bundle, session: Session) -> Start:
    """start({"front": source}, {"record": "rows/"}, budget=..., frames=..., seconds=..., meter=...): a run."""

    def start_run(
        sources: dict[str, FrameSource], outputs: dict[str, str] | None = None, budget: str | None = None, **about: Any
    ) -> SeveralOutcome:
        names = [bucket.name for bucket in bundle.manifest.buckets]
        meter = about.pop("meter", None) or open_meter("none")
        of_all = parse_budget(budget).for_cameras(len(sources)) if budget else None
        governor = start_governor(of_all, session, names, (bundles.H, bundles.W), meter) if of_all else None
        stream = Stream(bundle, session, make_chooser("in-frame", bundle.manifest.buckets), None, governor)
        opened = Opened(stream, {name: open_capture(source) for name, source in sources.items()})
        try:
            own = outputs_of_cameras(outputs or {}, sources)
            return run_several(
                opened, meter, Limits(about.pop("frames", None), about.pop("seconds", None)), own, **about
            )
        finally:
            for source in sources.values():
                if isinstance(source, Simulated):
                    source.closed.set()

    return start_run


def test_each_camera_has_a_record_of_its_own_and_the_totals_are_of_all(start: Start, tmp_path: Path) -> None:
    sources = {"front": Scripted(12), "rear": Scripted(7)}
    outputs = {"record": str(tmp_path / "rows.csv"), "areas": f"{tmp_path / 'areas'}/"}
    summary, failure = start(sources, outputs, meter=CountingMeter())
    assert failure is None and (summary.ended, summary.failure) == ("finished", None)
    rows = {name: read(tmp_path / f"rows-{name}.csv") for name in sources}
    for name, count in {"front": 12, "rear": 7}.items():
        own = summary.cameras[name]
        assert own.figures.frames == count and own.outputs["record"] == str(tmp_path / f"rows-{name}.csv")
        assert own.figures == summarise_run(ledger_of(rows[name])) and own.ended == "finished"
        assert {row["cameras"] for row in rows[name]} == {"2"}
        assert [row["index"] for row in rows[name]] == [str(index) for index in range(count)]
        assert [row["bucket"] for row in rows[name]] == [
            bundles.expected_bucket(scripted_frame(at)) for at in range(count)
        ]
        areas = [line for path in (tmp_path / "areas" / name).iterdir() for line in path.read_text().splitlines()]
        assert [json.loads(line)["index"] for line in areas] == list(range(count))
    every = [row for name in rows for row in rows[name]]
    assert (summary.figures.frames, summary.figures.newest) == (19, 19)
    assert summary.figures.latency_ms == percentiles([float(row["latency_ms"]) for row in every])
    tokens = sum(int(row["tokens"]) for row in every) / 19
    assert summary.figures.tokens_mean == pytest.approx(tokens)
    assert summary.energy.mj_per_frame == pytest.approx(1000 * 20 / 19)  # the machine's, over the frames of all
    content = summary.to_json()
    json.dumps(content, allow_nan=False)
    assert (content["frames"], content["cameras"]["rear"]["frames"]) == (19, 7)
    assert content["cameras"]["rear"]["latency_ms"] == asdict(summary.cameras["rear"].figures.latency_ms)


def test_turns_are_fair_in_the_loop_itself(start: Start) -> None:
    """A camera with 50 times the frames of another takes nothing from it, and of two as fast each gets half."""
    sources = {"slow": Simulated("slow", 8), "fast": Simulated("fast", 400), "other": Simulated("other", 400)}

    def slowly(result: Result) -> None:
        time.sleep(0.01)

    _Calls.called = slowly
    summary, _ = start(sources, {"call": f"{__name__}:called"}, seconds=1.5)
    frames = {name: each.figures.frames for name, each in summary.cameras.items()}
    assert summary.cameras["slow"].figures.dropped == 0 and frames["slow"] >= 10
    assert abs(frames["fast"] - frames["other"]) <= frames["slow"] + 2 and frames["fast"] > 2 * frames["slow"]
    assert summary.cameras["fast"].figures.dropped > 3 * frames["fast"]


class _Calls:
    called: Callable[[Result], None]


def called(result: Result) -> None:
    """What the runs here call with each result."""
    _Calls.called(result)


def test_a_function_is_told_whose_frame_it_is(start: Start) -> None:
    seen: list[tuple[str | None, int]] = []
    _Calls.called = lambda result: seen.append((result.camera, result.index))
    start({"a": Scripted(3), "b": Scripted(2)}, {"call": f"{__name__}:called"})
    assert sorted(seen, key=str) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]


def test_one_that_is_lost_ends_by_itself_and_its_record_stays(start: Start, tmp_path: Path, said: list[str]) -> None:
    sources = {
        "lost": Scripted(3, then=CameraUnplugged("/dev/video1 is gone; plug it in")),
        "steady": Scripted(40),
        "empty": Scripted(0),
    }
    summary, failure = start(sources, {"record": str(tmp_path / "rows.csv")})
    assert isinstance(failure, RunError) and str(failure) == summary.failure
    assert str(failure).startswith(
        "2 of 3 cameras were lost: lost: /dev/video1 is gone; plug it in; 3 frames until then"
    )
    assert "empty: scripted has no frames; no frame was processed before" in str(failure)
    ended = {name: (each.ended, each.figures.frames) for name, each in summary.cameras.items()}
    assert ended == {"lost": ("failure", 3), "steady": ("finished", 40), "empty": ("failure", 0)}
    assert summary.ended == "failure" and summary.figures.frames == 43
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows-lost.partial.csv", "rows-steady.csv"]
    assert len(read(tmp_path / "rows-lost.partial.csv")) == 3
    lost = next(line for line in said if line.startswith("camera lost is lost: /dev/video1 is gone"))
    assert "rows-lost.partial.csv" in lost and "steady" in lost and lost.endswith(("goes on", "go on"))
    assert summary.cameras["lost"].outputs["record"] == str(tmp_path / "rows-lost.partial.csv")


def test_an_output_that_fails_ends_its_camera_alone(start: Start, said: list[str]) -> None:
    def refuse(result: Result) -> None:
        if result.camera == "rear" and result.index == 2:
            raise ValueError("enough\nof it")

    _Calls.called = refuse
    summary, failure = start({"front": Scripted(10), "rear": Scripted(10)}, {"call": f"{__name__}:called"})
    assert {name: each.figures.frames for name, each in summary.cameras.items()} == {"front": 10, "rear": 2}
    assert "1 of 2 cameras was lost: rear: " in str(failure) and "failed on frame 2: " in str(failure)
    assert not any("\n" in line for line in (*said, str(summary.cameras["rear"].failure)))
    assert any("enough of it" in line for line in said)


def test_a_flaw_of_ours_is_no_lost_camera(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        start(
            {"a": Scripted(2, then=ZeroDivisionError()), "b": Simulated("b", 100)}, {"record": str(tmp_path / "r.csv")}
        )
    assert not list(tmp_path.glob("r-?.csv")) and list(tmp_path.glob("r-?.partial.csv"))


class _AllAtHand(Turns):
    """Each turn is taken when every camera has a frame, however slowly the threads that fetch them come to theirs."""

    def take(self, until_ns: int | None = None) -> Turn | None:
        with self._changed:
            at_hand = self._changed.wait_for(lambda: all(each.got for each in self._cameras.values()), WAIT_S)
        assert at_hand, "a camera gives no frame"
        return super().take(until_ns)


def test_limits_are_of_the_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of all cameras count; with frames at hand from all, each has as many of them."""
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "Turns", _AllAtHand)
        summary, _ = start({"a": Scripted(50), "b": Scripted(50)}, frames=20)
    frames = {name: each.figures.frames for name, each in summary.cameras.items()}
    assert frames == {"a": 10, "b": 10} and summary.figures.frames == 20 and summary.ended == "finished"
    silent = {
        "a": Simulated("a", 50),
        "b": Simulated("b", 50, hangs_after=2),
        "none": Simulated("none", 50, hangs_after=0),
    }
    began_s = time.monotonic()
    summary, failure = start(silent, seconds=0.5)
    assert failure is None and 0.5 <= time.monotonic() - began_s < 10 and summary.ended == "finished"
    assert {name: each.ended for name, each in summary.cameras.items()} == {
        "a": "finished",
        "b": "finished",
        "none": "no frame",
    }


def test_a_budget_is_for_all_and_a_rate_for_each(start: Start, said: list[str]) -> None:
    sources = {"a": Scripted(bundles.N + 1), "b": Scripted(bundles.N + 1)}
    summary, _ = start(sources, budget="0.0001ms,15fps,2.5W", meter=CountingMeter())
    assert summary.budget and summary.budget.budget == "0.0001ms,30fps,2.5W"
    assert summary.budget.held["ms"] == 0.0 and summary.budget.held["W"] == 1.0
    assert summary.budget.judged["ms"] == 50 and summary.budget.longest_over["ms"] == 50
    assert set(summary.figures.buckets) == {"quarter"}  # of both cameras' frames
    for each in summary.cameras.values():
        assert each.budget and each.budget.budget == "0.0001ms" and each.budget.judged == {"ms": 25}
    assert any("budget 0.0001ms,30fps,2.5W is not held: the smallest bucket" in line for line in said)


def test_waits_of_a_camera_are_for_its_turn_and_those_of_all_for_any(start: Start, tmp_path: Path) -> None:
    """So the loop's own cost is right in each record, and in the totals."""

    def slowly(result: Result) -> None:
        time.sleep(0.06 if result.camera == "b" else 0.0)

    _Calls.called = slowly
    sources = {"a": Scripted(12), "b": Scripted(12)}
    summary, _ = start(sources, {"call": f"{__name__}:called", "record": str(tmp_path / "rows.csv")})
    waits = [float(row["wait_ms"]) for row in read(tmp_path / "rows-a.csv")]
    assert waits[0] == 0.0 and min(waits[2:]) > 50  # b's frame between
    assert summary.overhead.ms_per_frame is not None and summary.overhead.ms_per_frame < 25


def test_a_signal_ends_all_in_a_second_of_the_processor(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending._ending, "asked", False)
    sources = {
        "a": Simulated("a", 50),
        "hung": Simulated("hung", 50, hangs_after=2),
        "b": Simulated("b", 5, hangs_after=0),
        "c": Simulated("c", 5, hangs_after=0),
        "none": Simulated("none", 5, hangs_after=0),
    }
    asked_s: list[tuple[float, float]] = []

    def ask() -> None:
        asked_s.append((time.monotonic(), time.process_time()))
        ending._ending.asked = True  # as its handler does

    timer = threading.Timer(0.5, ask)
    timer.start()
    summary, failure = start(sources, {"record": str(tmp_path / "rows.csv")})
    [(clock_s, processor_s)] = asked_s
    assert time.process_time() - processor_s < 1 and time.monotonic() - clock_s < 10  # a hung one answers after 30
    assert failure is None and summary.ended == "interrupted"
    assert {each.ended for each in summary.cameras.values()} == {"interrupted"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows-a.csv", "rows-hung.csv"]


def test_an_output_that_can_not_be_begun_leaves_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    own = {"front": {"record": str(tmp_path / "rows.csv")}, "rear": {"record": str(tmp_path / "there" / "rows.csv")}}
    opened = Opened(None, {name: open_capture(Scripted(3)) for name in own})  # type: ignore[arg-type]
    with pytest.raises(InputError):
        run_several(opened, CountingMeter(), outputs=own)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_camera_that_is_not_there_yet_comes_later(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As after a power cut: its network is slower than this machine."""
    asked: list[float] = []

    def open_it(uri: str, wanted: Wanted) -> FrameSource:
        asked.append(time.monotonic())
        if len(asked) != 3:
            raise CameraAway("nobody answers; check the camera")
        return Simulated("late", 100, count=20, then=CameraUnplugged("it is gone; plug it in"))

    monkeypatch.setitem(SOURCES, "late", CameraKind(open_it, "late://", scheme=True, endless=True))
    steady = "synthetic://street?height=32&width=48&ahead=3&fps=30&frames=90"
    cameras = {"late": "late://x", "steady": steady}
    with closing(
        open_several(bundle, cameras, StreamOptions(realtime=True, give_up=1.5), open_meter("none"))
    ) as opened:
        monkeypatch.setattr("edgeprune.runtime.cameras.reconnect.FIRST_PAUSE_S", 0.2)
        summary, failure = run_several(opened, open_meter("none"), Limits(seconds=30.0))
    late = summary.cameras["late"]
    assert late.figures.frames + late.figures.dropped == 20 and late.camera.reconnects == 1
    assert summary.cameras["steady"].figures.frames > 45 and summary.cameras["steady"].ended == "finished"
    assert str(failure).startswith("1 of 2 cameras was lost: late: it is gone; given up after 1.5 s")
    assert "camera late: nobody answers; reconnecting for up to 1.5 s" in said
    assert any(line.startswith("camera late: late://") and " is back after " in line for line in said)


@pytest.mark.parametrize("later", [False, True])
def test_what_is_wrong_with_one_camera_is_refused_at_once_beside_one_that_is_well(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, said: list[str], later: bool
) -> None:
    def refuse(uri: str, wanted: Wanted) -> FrameSource:
        raise InputError("cannot open it: 401 Unauthorized; check user:password")

    monkeypatch.setitem(SOURCES, "late", CameraKind(refuse, "late://", scheme=True, endless=True))
    street = "synthetic://street?height=32&width=48&frames=3"
    for wrong, words in {
        "late://x": "401 Unauthorized",
        "/dev/video98?sise=640x480": "did you mean 'size'?",
    }.items():
        cameras = {"wrong": wrong, "street": street}
        with pytest.raises(InputError, match=r"^cameras\.wrong: ") as refused:
            open_several(bundle, cameras, StreamOptions(give_up=60.0), open_meter("none"), later=later)
        assert words in str(refused.value) and not isinstance(refused.value, CameraAway)
    assert not said


def test_where_all_are_away_that_is_an_error(bundle: Bundle, said: list[str]) -> None:
    cameras = {"a": "rtsp://127.0.0.1:1/a", "b": "/dev/video98"}
    with pytest.raises(InputError, match=r"^cameras\.a: "):
        open_several(bundle, cameras, StreamOptions(), open_meter("none"))
    street = "synthetic://street?height=32&width=48&frames=3"
    with pytest.raises(InputError, match=r"^cameras\.b: "):  # nothing is opened anew
        open_several(bundle, {"street": street, "b": "/dev/video98"}, StreamOptions(give_up=0.0), open_meter("none"))


def test_opening(bundle: Bundle, said: list[str], tmp_path: Path) -> None:
    street = "synthetic://street?height=32&width=48&frames=3"
    cameras = {"front": f"{street}&seed=1", "rear": f"{street}&seed=2"}
    opened = open_several(bundle, cameras, StreamOptions(budget="15fps,40ms", realtime=True))
    try:
        assert opened.stream.budget == parse_budget("30fps,40ms") and opened.stream.capture is None
        assert all(capture.source.live for capture in opened.captures.values())
        assert "budget 40ms,15fps for each of 2 cameras: the engine is to hold 40ms,30fps" in said
    finally:
        opened.close()
    before = threading.active_count()
    for wrong, options, words in [
        ({"rear": "nowhere.mp4"}, {}, "cameras.rear: no camera, file or folder 'nowhere.mp4'"),
        ({"rear": "synthetic://street?sede=2"}, {}, "did you mean 'seed'?"),
        ({}, {"give_up": "5m"}, "no camera is a live one, which could be lost; leave --give-up out"),
        (
            {},
            {"chooser": "previous-frame"},
            "--chooser previous-frame goes by the frame before, which is another camera's",
        ),
        (
            {},
            {"chooser": "next-frame"},
            "next-frame is of a memory between frames, which cameras that share graphs have not",
        ),
        ({}, {"budget": "10W"}, "give a budget in ms or fps"),
    ]:
        with pytest.raises(InputError) as refused:
            open_several(bundle, cameras | wrong, StreamOptions.model_validate(options), open_meter("none"))
        assert words in str(refused.value)
    assert threading.active_count() <= before


def test_a_new_bundle_is_switched_to_for_all_at_once(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs of a camera that has no frame yet, such as its page, hear of it as well."""
    heard: list[str] = []
    monkeypatch.setattr(Outputs, "learn", lambda self, about: heard.append(about.model))

    monkeypatch.setattr(ending._ending, "asked", False)
    since = [0]

    def put(result: Result) -> None:
        """The new bundle, and the end of the run when it has had thirty frames of that camera."""
        if result.camera == "b" and result.index == 3:
            place.put("second")
        since[0] += result.camera == "b" and len(heard) == 6
        if since[0] > 30:
            ending._ending.asked = True  # as the handler of a signal does

    _Calls.called = put
    sources = {"a": Simulated("a", None), "b": Simulated("b", 60), "none": Simulated("none", 60, hangs_after=0)}
    with closing(place.stream()) as stream:
        opened = Opened(stream, {name: open_capture(source) for name, source in sources.items()})
        own = {name: {"record": str(tmp_path / f"{name}.csv"), "call": f"{__name__}:called"} for name in sources}
        summary, failure = run_several(opened, open_meter("none"), Limits(seconds=60.0), own)
        sources["none"].closed.set()
        assert stream.bundle.manifest.name == summary.model == "second"
    assert failure is None and summary.renewals
    assert (summary.renewals.switched, summary.renewals.rolled_back, summary.renewals.refused) == (1, 0, 0)
    assert [int(row["index"]) for row in read(tmp_path / "a.csv")] == list(range(summary.cameras["a"].figures.frames))
    assert summary.cameras["b"].figures.frames > 30 and heard == 3 * ["first"] + 3 * ["second"]
