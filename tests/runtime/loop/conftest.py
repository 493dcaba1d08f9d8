"""A tiny bundle, its session, a folder of images, and a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.choose import Chooser, make_chooser
from edgeprune.runtime.engines import ENGINES, Session
from edgeprune.runtime.meters import Meter, open_meter
from edgeprune.runtime.pipeline import PIPELINES
from edgeprune.runtime.row import Row
from edgeprune.runtime.run import Limits, Outcome, run
from edgeprune.runtime.sinks import SINKS
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks import Result
from tests import bundles
from tests.runtime.loop.fakes import CountingMeter, Log, Scripted, scripted_frame


class Ended(NamedTuple):
    """An `Outcome` whose summary is as JSON has it."""

    summary: dict[str, Any]
    failure: RunError | None


def decoded(path: str | Path) -> list[np.ndarray]:
    """The frames of a film, H x W x 3."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("loop") / "tiny")


@pytest.fixture(scope="session")
def session(bundle: Bundle) -> Session:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    return ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)


@pytest.fixture
def make_png_folder(tmp_path: Path) -> Callable[[int], Path]:
    """make_png_folder(count): a folder of scripted frames."""

    def make(count: int) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        for index in range(count):
            Image.fromarray(scripted_frame(index)).save(folder / f"{index:03d}.png")
        return folder

    return make


@pytest.fixture(params=PIPELINES)
def start(bundle: Bundle, session: Session, request: pytest.FixtureRequest) -> Callable[..., Ended]:
    """start(source, meter=, chooser=, ...): a run, with each pipeline."""

    def start_run(
        source: Any, meter: Meter | None = None, chooser: str | Chooser = "in-frame", **options: Any
    ) -> Ended:
        outputs = {key: str(options.pop(key)) for key in SINKS if key in options}
        limits = Limits(options.pop("frames", None), options.pop("seconds", None))
        if isinstance(chooser, str):
            chooser = make_chooser(chooser, bundle.manifest.buckets)
        stream = Stream(bundle, session, chooser, open_capture(source))
        summary, failure = run(stream, meter or open_meter("none"), limits, outputs, pipeline=request.param, **options)
        return Ended(summary.to_json(), failure)

    return start_run


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Log]:
    """log(act): what takes the place of the page in the runs that follow."""

    def make(act: Callable[[Result, Row], Row | None] = lambda result, row: None, key: str = "view") -> Log:
        made = Log(act)
        monkeypatch.setitem(SINKS, key, SINKS[key]._replace(output=lambda name: None, open=lambda *_: made))
        return made

    return make


@pytest.fixture
def go(bundle: Bundle, session: Session) -> Callable[..., Outcome]:
    """go(pipeline, source, session=, chooser=, frames=, record=...): a run."""

    def begin(
        pipeline: str | None,
        source: Scripted,
        graphs: Any = None,
        chooser: Chooser | None = None,
        governor: Any = None,
        frames: int | None = None,
        **outputs: Any,
    ) -> Outcome:
        chooser = chooser or make_chooser("in-frame", bundle.manifest.buckets)
        stream = Stream(bundle, graphs or session, chooser, open_capture(source), governor)
        names = {key: str(name) for key, name in outputs.items()}
        return run(stream, CountingMeter(), Limits(frames), names, pipeline=pipeline)

    return begin
