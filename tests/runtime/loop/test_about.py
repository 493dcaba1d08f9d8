"""What a run is of."""

import threading
from collections.abc import Callable, Iterator

import pytest

from edgeprune.bundle import Bundle
from edgeprune.runtime.about import About
from edgeprune.runtime.cameras.source import Picture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.run import Outcome
from edgeprune.runtime.stream import Stream
from tests import bundles
from tests.runtime.loop.fakes import CountingMeter, Scripted


def test_it_comes_from_the_bundle_the_session_and_the_meter(bundle: Bundle, session: Session) -> None:
    stream = Stream(bundle, session, make_chooser("in-frame", bundle.manifest.buckets))
    about = About.of(stream, open_meter("none"))
    assert about.model == bundle.manifest.name and about.names == tuple(bundles.NAMES)
    assert about.engine.startswith("onnxruntime ") and about.engine.endswith(", fp32")
    assert list(about.shares) == list(bundles.BUCKETS) and about.shares["full"] == 1.0
    assert about.energy == "no energy sensor: none was asked for"
    meter = CountingMeter()
    assert About.of(stream, meter).energy == "measured by counting"
    assert about.damaged() == 0 and about.map_tokens(0.0)
    assert not meter.started and not meter.stopped


def test_outputs_know_what_runs_before_the_first_frame(
    go: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = threading.Event()
    monkeypatch.setattr(Outputs, "learn", lambda self, about: known.set())

    class Late(Scripted):
        waited = False

        def one_pass(self) -> Iterator[Picture]:
            self.waited = known.wait(10)
            yield from super().one_pass()

    source = Late(1)
    go("off", source)
    assert source.waited
