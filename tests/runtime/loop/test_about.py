"""What a run is of."""

from edgeprune.bundle import Bundle
from edgeprune.runtime.about import About
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.stream import Stream
from tests import bundles
from tests.runtime.loop.fakes import CountingMeter


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
