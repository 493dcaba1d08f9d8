"""A new bundle under a run that goes on: taken, refused, rolled back."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.base.errors import RunError
from edgeprune.bundle import Bundle, Manifest, open_bundle, write_manifest
from edgeprune.runtime import renewal
from edgeprune.runtime.budget.costs import BucketCosts
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.cameras.source import Frame, Picture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import ENGINES, Session
from edgeprune.runtime.engines.bound import Outputs
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.opening import StreamOptions, open_stream
from edgeprune.runtime.outputs import Outputs as AllOutputs
from edgeprune.runtime.renewal import Renewal, identity_of
from edgeprune.runtime.run import run
from edgeprune.runtime.running import Running
from edgeprune.runtime.stream import Stream
from tests import bundles
from tests.runtime.loop.fakes import Scripted, scripted_frame, until
from tests.runtime.rows import read

LOOKS_S, TRIAL = 0.02, 8


class Watched:
    """A session that knows whether it was closed; it fails at a frame, or takes its time."""

    remembered = None

    def __init__(
        self,
        session: Session,
        fails_at: int | None = None,
        takes_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._session, self._fails_at, self._takes_s, self._sleep = session, fails_at, takes_s, sleep
        self.frames, self.closed = 0, False

    def start(self, frame_HW3: np.ndarray) -> int:
        assert not self.closed
        self.frames += 1
        if self.frames == self._fails_at:
            raise RunError("the GPU is gone")
        self._sleep(self._takes_s)
        return self._session.start(frame_HW3)

    def bucket_of(self, chosen: str) -> str:
        return self._session.bucket_of(chosen)

    def reset(self) -> None:
        self._session.reset()

    def finish(self, bucket: str) -> Outputs:
        return self._session.finish(bucket)

    def describe(self) -> dict[str, Any]:
        return self._session.describe()

    def close(self) -> None:
        self.closed = True
        self._session.close()


class Clock:
    """What frames are timed by, whatever else the machine does: from look to look a tenth of a millisecond passes."""

    def __init__(self) -> None:
        self._ns = 10**9

    def monotonic_ns(self) -> int:
        self._ns += 10**5
        return self._ns

    def sleep(self, seconds: float) -> None:
        self._ns += round(1e9 * seconds)


class Place:
    """A link to a bundle, and the streams that are opened by it."""

    def __init__(self, folder: Path):
        self.folder, self.link = folder, folder / "current"
        self.begun: list[Watched] = []
        self.faults: dict[str, Any] = {}  # of the sessions that are begun from here on
        self.put("first")

    def write(self, name: str) -> Bundle:
        made = bundles.write_bundle(self.folder / name, precisions=("fp32",))
        write_manifest(made.folder, made.manifest.model_copy(update={"name": name}))
        return open_bundle(made.folder)

    def put(self, name: str) -> Bundle:
        """Another bundle, under the link from one moment to the next."""
        bundle = self.write(name) if not (self.folder / name).exists() else open_bundle(self.folder / name)
        self.lead_to(name)
        return bundle

    def lead_to(self, name: str) -> None:
        new = self.folder / "new"
        new.symlink_to(name)
        os.replace(new, self.link)

    def begin(self, bundle: Bundle) -> Running:
        session = Watched(ENGINES["onnxruntime"].open(bundle, "fp32", threads=1), **self.faults)
        self.begun.append(session)
        return Running(bundle, cast(Session, session), make_chooser("in-frame", bundle.manifest.buckets))

    def stream(self, budget: Budget | None = None, source: Scripted | None = None) -> Stream:
        first = open_bundle(self.link)
        running = self.begin(first)
        watch = Renewal(first, self.begin, budget, LOOKS_S, TRIAL)
        return Stream.of(running, open_capture(source) if source else None, watch)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    return Place(tmp_path)


def frames_until(stream: Stream, done: Callable[[], bool], smallest: bool = False) -> None:
    """Frames whose answers are those that are known, until then; in the smallest bucket, or the one that each asks for."""
    until_s = time.monotonic() + 60
    index = 0
    while not done():
        assert time.monotonic() < until_s, stream.renewals
        index += 1
        frame_HW3 = scripted_frame(index)
        bucket = stream.bundle.manifest.buckets[0].name if smallest else bundles.expected_bucket(frame_HW3)
        expected = bundles.expected_labels(frame_HW3, bucket)
        found = stream.segment(frame_HW3).labels[:: bundles.CELL, :: bundles.CELL]
        assert np.array_equal(found, expected)
        time.sleep(0.002)


def test_a_new_bundle_is_taken_between_two_frames_and_the_old_one_closed(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with place.stream() as stream:
        assert stream.renewals and stream.bundle.manifest.name == "first"
        place.put("second")
        frames_until(stream, lambda: stream.bundle.manifest.name == "second")
        first, second = place.begun
        assert not first.closed  # until the new one has proven itself
        frames_until(stream, lambda: first.closed)
        assert not second.closed and second.frames >= TRIAL
        place.put("third")
        frames_until(stream, lambda: second.closed)
        renewals = stream.renewals
    assert (renewals.switched, renewals.rolled_back, renewals.refused, renewals.reason) == (2, 0, 0, None)
    assert all(session.closed for session in place.begun) and len(place.begun) == 3
    assert sum("takes the old one's place" in line for line in caplog.messages) == 2
    assert sum("has proven itself" in line for line in caplog.messages) == 2


def test_idle_power_that_was_measured_holds_for_the_next_bundle(place: Place) -> None:
    """It is the machine's; a budget of power would leave room unused without it."""
    begin = place.begin

    def governed(bundle: Bundle) -> Running:
        running = begin(bundle)
        costs = BucketCosts({name: [1.0] for name in running.buckets}, [1.0])
        running.governor = Governor(Budget(power_w=10.0), running.buckets, costs, lambda: 5.0)
        return running

    place.begin = governed  # type: ignore[method-assign]
    with place.stream() as stream:
        stream.know_idle(4.5)
        place.put("second")
        frames_until(stream, lambda: stream.bundle.manifest.name == "second", smallest=True)
        governor = stream._running.governor
    assert governor and governor.idle_w == 4.5


def damaged(place: Place) -> None:
    bundle = place.write("second")
    path = bundle.path(bundle.graphs("fp32").trunk)
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def cut_off(place: Place) -> None:
    place.write("second").path("references.npz").unlink()


def disagreeing(place: Place) -> None:
    bundle = place.write("second")
    with np.load(bundle.path("references.npz")) as content:
        arrays = {name: content[name] for name in content.files}
    arrays["fp32/half"] = arrays["fp32/half"] + 1
    np.savez(bundle.path("references.npz"), **arrays)
    write_manifest(bundle.folder, bundle.manifest)


def of_other_classes(place: Place) -> None:
    bundle = place.write("second")
    names = [f"other{name}" for name in bundle.manifest.names]
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"names": names}))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (damaged, "trunk.onnx does not match its hash"),
        (cut_off, "lacks references.npz"),
        (disagreeing, "half in fp32 gives 0.00% of the labels that the bundle's references have, at least 99.90%"),
        (of_other_classes, "its names are others than those that the run began with"),
    ],
)
def test_what_is_refused_is_said_once(
    place: Place, caplog: pytest.LogCaptureFixture, make: Callable[[Place], None], reason: str
) -> None:
    with place.stream() as stream:
        renewals = stream.renewals
        assert renewals
        make(place)
        place.lead_to("second")
        frames_until(stream, lambda: renewals.refused > 0)
        until_s = time.monotonic() + 10 * LOOKS_S
        frames_until(stream, lambda: time.monotonic() > until_s)
        assert stream.bundle.manifest.name == "first" and (renewals.switched, renewals.refused) == (0, 1)
        assert renewals.reason and reason in renewals.reason
        assert [reason in line for line in caplog.messages] == [True]
        assert not place.begun[0].closed and all(session.closed for session in place.begun[1:])
        place.put("third")  # a better one is taken
        frames_until(stream, lambda: place.begun[0].closed)
        assert stream.bundle.manifest.name == "third"


def test_one_that_fails_at_its_third_frame_is_rolled_back(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with place.stream() as stream:
        renewals = stream.renewals
        assert renewals
        parity_frames = 3  # one for each bucket
        place.faults = {"fails_at": parity_frames + 3}
        place.put("second")
        frames_until(stream, lambda: renewals.rolled_back > 0)  # no frame is lost, and each is right
        assert stream.bundle.manifest.name == "first" and place.begun[1].closed and not place.begun[0].closed
        assert renewals.reason and renewals.reason.endswith("second failed at its frame 3: the GPU is gone")
        assert [line for line in caplog.messages if "failed" in line] == [f"{renewals.reason}; the old one goes on"]
        until_s = time.monotonic() + 10 * LOOKS_S
        frames_until(stream, lambda: time.monotonic() > until_s)
        assert (renewals.switched, renewals.rolled_back, len(place.begun)) == (1, 1, 2)  # it is not tried again


def test_the_link_that_leads_back_to_what_runs_opens_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with place.stream() as stream:
        renewals = stream.renewals
        assert renewals
        place.faults = {"fails_at": 3 + 1}
        place.put("second")
        frames_until(stream, lambda: renewals.rolled_back > 0)
        place.lead_to("first")
        back = f"bundle {place.folder / 'first'} is what runs already; it goes on"
        frames_until(stream, lambda: back in caplog.messages)
        assert len(place.begun) == 2 and not place.begun[0].closed
        place.faults = {}
        place.lead_to("second")  # mended, say: it is tried again
        frames_until(stream, lambda: place.begun[0].closed)
        place.lead_to("first")  # and that is another one now
        frames_until(stream, lambda: stream.bundle.manifest.name == "first")
        assert (renewals.switched, renewals.rolled_back, len(place.begun)) == (3, 1, 4)


def test_a_frame_that_a_new_bundle_failed_on_is_late_by_that(place: Place) -> None:
    with place.stream() as stream:
        renewals = stream.renewals
        assert renewals
        for name, fitted in {"second": False, "third": True}.items():
            place.put(name)
            assert until(lambda: stream._renewal is not None and stream._renewal._ready is not None)

            def fail_in_the_end(frame_HW3: np.ndarray) -> int:
                time.sleep(0.2)
                raise RunError("the GPU is gone")

            place.begun[-1].start = fail_in_the_end  # type: ignore[method-assign]
            frame = Frame(time.monotonic_ns(), scripted_frame(1), 1)
            result = stream.process(frame, stream.fit(frame) if fitted else None)
            assert stream.bundle.manifest.name == "first" and result.latency_ms >= 200
            assert result.facts.fit_ms < 200
        assert renewals.rolled_back == 2


def test_a_failure_after_the_trial_is_the_run_s(place: Place) -> None:
    with place.stream() as stream:
        place.faults = {"fails_at": 3 + TRIAL + 5}
        place.put("second")
        with pytest.raises(RunError, match="the GPU is gone"):
            frames_until(stream, lambda: False)


@pytest.mark.parametrize(
    ("limit_ms", "rolled_back"), [(60.0, True), (0.0001, False), (None, False)], ids=["held", "not held", "none"]
)
def test_one_that_is_over_the_budget_which_the_old_one_held(
    place: Place, limit_ms: float | None, rolled_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("edgeprune.runtime.running.time", clock)
    with place.stream(Budget(latency_ms=limit_ms) if limit_ms else None) as stream:
        renewals = stream.renewals
        assert renewals
        for index in range(3):  # of the old one alone: frames beside an opening are not compared with
            stream.segment(scripted_frame(index))
        place.faults = {"takes_s": 0.12, "sleep": clock.sleep}
        place.put("second")
        frames_until(stream, lambda: renewals.switched > 0)
        frames_until(stream, lambda: renewals.rolled_back > 0 or place.begun[0].closed)
        assert (renewals.rolled_back > 0) == rolled_back == place.begun[1].closed
        assert not rolled_back or "ms, over the budget's 60.0, which the old one held with" in str(renewals.reason)


def test_closing_a_stream_closes_what_is_on_trial(place: Place) -> None:
    stream = place.stream()
    place.put("second")
    frames_until(stream, lambda: stream.bundle.manifest.name == "second")
    stream.close()
    assert [session.closed for session in place.begun] == [True, True]
    place.put("third")
    time.sleep(10 * LOOKS_S)
    assert len(place.begun) == 2


def test_what_was_replaced_before_it_was_watched_is_new(place: Place) -> None:
    first = open_bundle(place.link)
    place.put("second")
    stream = Stream.of(place.begin(first), None, Renewal(first, place.begin, None, LOOKS_S, TRIAL))
    with stream:
        frames_until(stream, lambda: stream.bundle.manifest.name == "second")


def test_what_is_replaced_while_the_watch_begins_is_new(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    read = renewal.read_manifest

    def replaced(folder: Path) -> Manifest:
        manifest = read(folder)
        monkeypatch.setattr(renewal, "read_manifest", read)
        place.put("second")
        return manifest

    first = open_bundle(place.link)
    monkeypatch.setattr(renewal, "read_manifest", replaced)
    stream = Stream.of(place.begin(first), None, Renewal(first, place.begin, None, LOOKS_S, TRIAL))
    with stream:
        frames_until(stream, lambda: stream.bundle.manifest.name == "second")


def test_what_is_opened_is_what_was_verified_wherever_the_link_leads_by_then(place: Place) -> None:
    verified = open_bundle(place.link)
    bundle = place.write("second")
    bundle.path(bundle.graphs("fp32").trunk).write_bytes(b"no graph")
    place.lead_to("second")
    with open_stream(verified, None, StreamOptions(threads=1), renewed=True) as stream:
        assert stream.bundle.folder == place.folder / "first"
        stream.segment(scripted_frame(0))


def test_a_folder_that_is_replaced_and_one_that_is_being_copied(place: Place) -> None:
    os.remove(place.link)
    os.rename(place.folder / "first", place.link)
    before = identity_of(place.link)
    assert before and before == identity_of(place.link)
    with place.stream() as stream:
        new = place.write("second").folder
        os.rename(place.link, place.folder / "old")
        assert identity_of(place.link) is None
        frames_until(stream, lambda: True)
        os.rename(new, place.link)
        assert identity_of(place.link) != before
        frames_until(stream, lambda: stream.bundle.manifest.name == "second")


class Renewed(Scripted):
    """Puts a new bundle in place at its twentieth frame, by `put`."""

    def __init__(self, put: Callable[[], object], count: int = 400):
        super().__init__(count)
        self._put = put

    def one_pass(self) -> Iterator[Picture]:
        for index, picture in enumerate(super().one_pass()):
            if index == 20:
                self._put()
            time.sleep(0.005)
            yield picture


def test_the_record_goes_on_and_the_summary_counts(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(AllOutputs, "learn", lambda self, about: heard.append(about.model))
    record = tmp_path / "rows.csv"
    stream = place.stream(source=Renewed(lambda: place.put("second")))
    summary, failure = run(stream, open_meter("none"), outputs={"record": str(record)})
    stream.close()
    assert failure is None and [int(row["index"]) for row in read(record)] == list(range(400))
    content = summary.to_json()
    assert content["renewals"] == {"switched": 1, "rolled_back": 0, "refused": 0, "reason": None}
    assert content["bundle"] == str(place.folder / "second") and heard == ["first", "second"]  # the page says what runs


def test_the_summary_names_what_runs_and_not_where_the_link_leads(place: Place) -> None:
    def put_what_is_refused() -> None:
        damaged(place)
        place.lead_to("second")

    (place.folder / "configuration").mkdir()
    place.link = place.folder / "configuration" / ".." / "current"
    stream = place.stream(source=Renewed(put_what_is_refused, 100))
    summary, _ = run(stream, open_meter("none"))
    stream.close()
    assert summary.renewals and (summary.renewals.switched, summary.renewals.refused) == (0, 1)
    assert summary.bundle == str(place.folder / "first")
    assert summary.renewals.reason and f"bundle {place.folder / 'second'} is refused" in summary.renewals.reason


def test_the_share_of_tokens_is_of_each_bundle_by_its_frames(place: Place) -> None:
    with place.stream() as stream:
        dense = stream.all_tokens
        stream.segment(scripted_frame(0))
        assert stream.token_share(None) is None and stream.token_share(dense / 2) == 0.5
        stream._running.all_tokens = 3 * dense  # as of a larger input
        stream.segment(scripted_frame(1))
        assert stream.token_share(dense) == 0.5


def test_a_stream_is_renewed_where_that_is_wanted(place: Place) -> None:
    bundle = open_bundle(place.link)
    with open_stream(bundle, None, StreamOptions(budget="1000ms", threads=1)) as stream:
        assert stream.renewals is None
    with open_stream(bundle, None, StreamOptions(budget="1000ms", threads=1), renewed=True) as stream:
        stream._renewal._looks_s = LOOKS_S  # type: ignore[union-attr]
        place.put("second")
        frames_until(stream, lambda: stream.bundle.manifest.name == "second")
        assert str(stream.budget) == "1000ms"


def test_a_frame_that_ends_after_an_opening_is_none_of_the_old_ones_usual(place: Place) -> None:
    """It began beside the opening, which slowed it."""
    with place.stream(Budget(latency_ms=60.0)) as stream:
        watched = stream._renewal
        assert watched is not None
        stream.segment(scripted_frame(0))
        assert len(watched._recent_ms) == 1
        watched._opening = True
        started = place.begun[0].start

        def ends_meanwhile(frame_HW3: np.ndarray) -> int:
            watched._opening = False
            return started(frame_HW3)

        place.begun[0].start = ends_meanwhile  # type: ignore[method-assign]
        stream.segment(scripted_frame(1))
        assert len(watched._recent_ms) == 1
        stream.segment(scripted_frame(2))
        assert len(watched._recent_ms) == 2
