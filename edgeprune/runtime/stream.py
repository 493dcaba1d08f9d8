"""`edgeprune.open`: a camera through a bundle, frame by frame. `run` goes through the same `Stream`."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from edgeprune.base.duration import read_duration
from edgeprune.base.ending import ending
from edgeprune.base.errors import InputError, choose
from edgeprune.base.reading import Strict, parse
from edgeprune.bundle import MIXED, BucketEntry, Bundle, open_bundle
from edgeprune.bundle.runtime_spec import MOST_THREADS
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras import Wanted, open_source, what_to_type
from edgeprune.runtime.cameras.capture import Capture, is_camera, open_capture
from edgeprune.runtime.cameras.reconnect import GIVE_UP_S, Reconnecting
from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.choose import CHOOSERS, Chooser, fixed, make_chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.preparing import prepare_run, refuse_threads, require_engine
from edgeprune.runtime.row import milliseconds
from edgeprune.runtime.tasks import FrameFacts, Result, find_task, open_task

Given = Annotated[str, Field(min_length=1)]
Duration = Annotated[float, BeforeValidator(lambda given: read_duration(given, "--give-up"))]

logger = logging.getLogger(__name__)


class Stream:
    """The frames of a camera, or of a caller's own, and what a bundle's graphs find in each.

    An iterator of results that ends with the camera, and a context manager. What it took it gives back at the end of the
    camera, with an error, and in `close()`. One thread at a time.

    Attributes:
        bundle: what `session` was opened from.
        session: opened, and so warmed up.
        capture: of the camera; None where frames come by `segment` alone.
        names: of the classes, by their ids.
        all_tokens: what the dense model processes in a frame, summed over the blocks.
    """

    def __init__(self, bundle: Bundle, session: Session, chooser: Chooser, capture: Capture | None = None):
        self.bundle, self.session, self.capture = bundle, session, capture
        self.names = list(bundle.manifest.names)
        self._chooser, self._fit, self._task = chooser, Preprocess.of(bundle.manifest), open_task(bundle.manifest)
        self._tokens_of = {bucket.name: bucket.token_layers for bucket in bundle.manifest.buckets}
        self.all_tokens = bundle.manifest.depth * bundle.manifest.tokens
        self._frames = 0
        self._began_ns = 0
        self._closed = False

    @property
    def dropped(self) -> int:
        """Frames of a live camera that were replaced by newer ones before anybody took them."""
        return self.capture.dropped if self.capture else 0

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        """The next frame's result.

        Raises:
            StopIteration: the camera's end.
            InputError, RunError: the camera fails (`CameraStalled`, `CameraUnplugged`, ...), or there is none.
        """
        if self.capture is None:
            raise InputError("this stream has no camera; open it with camera=..., or give frames to segment()")
        try:
            got = self.capture.get(self.patience_s)
            if got is None:
                raise StopIteration
            return self.process(got[0])
        except BaseException:
            self.close()
            raise

    @property
    def patience_s(self) -> float | None:
        """How long a frame is waited for before the camera counts as stalled; None: however long."""
        return self.capture.patience_s if self.capture else None

    def segment(self, image_HW3: UInt8, name: str | None = None) -> Result:
        """The result of a frame of the caller's own: of a ROS topic, of OpenCV (`image[..., ::-1]`, which is BGR).

        Args:
            image_HW3: uint8 RGB, any size, upright.
            name: what it is called in the result.

        Raises:
            InputError: it isn't such an image.
        """
        image_HW3 = np.asarray(image_HW3)
        if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or not image_HW3.size:
            raise InputError(
                f"a frame of {image_HW3.dtype} {image_HW3.shape} was given; uint8 (height, width, 3), RGB, is expected"
            )
        return self.process(Frame(time.monotonic_ns(), image_HW3, self._frames, name))

    def process(self, frame: Frame) -> Result:
        """One frame: fit, trunk, choose, tail.

        Raises:
            InputError: the stream is closed.
        """
        if self._closed:
            raise InputError("this stream is closed, as it is when its camera ends; open another")
        start_ns = time.monotonic_ns()
        fitted_HW3 = self._fit.fit(frame.image_HW3)
        fitted_ns = time.monotonic_ns()
        count = self.session.start(fitted_HW3)
        trunk_ns = time.monotonic_ns()
        bucket = self._chooser(count)
        chosen_ns = time.monotonic_ns()
        outputs = self.session.finish(bucket)
        end_ns = time.monotonic_ns()
        self._frames += 1
        self._began_ns = self._began_ns or start_ns
        tokens = self._tokens_of[bucket]
        facts = FrameFacts(
            frame=frame,
            bucket=bucket,
            tokens=tokens,
            token_share=tokens / self.all_tokens,
            fps=self._frames / ((end_ns - self._began_ns) / 1e9),
            start_ns=start_ns,
            end_ns=end_ns,
            fit_ms=milliseconds(start_ns, fitted_ns),
            trunk_ms=milliseconds(fitted_ns, trunk_ns),
            choose_ms=milliseconds(trunk_ns, chosen_ns),
            tail_ms=milliseconds(chosen_ns, end_ns),
        )
        return self._task.result(facts, outputs)

    def close(self) -> None:
        """Gives back the camera and what the graphs took; twice is no error."""
        with ending():
            self._closed = True
            try:
                if self.capture:
                    self.capture.close()
            finally:
                self.session.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class StreamOptions(Strict, frozen=True, strict=True):
    """What of a bundle runs, and how a file is played; what can't be is refused, by `edgeprune.open` and `run` alike.

    Attributes:
        precision: that the bundle was built in; by default the fastest.
        bucket: always this one; by default it is chosen for each frame.
        chooser: a key of CHOOSERS; by default the first.
        engine: a key of ENGINES; by default the target's.
        threads: of the engine; by default the target's.
        realtime: paces a file at its own rate, and drops what comes too fast.
        loop: starts a file again at its end.
        give_up: a live camera that is lost is opened anew for so long, in seconds or as "5m"; 0: never. By default GIVE_UP_S.
    """

    precision: Given | None = None
    bucket: Given | None = None
    chooser: Given | None = None
    engine: Given | None = None
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    realtime: bool = False
    loop: bool = False
    give_up: Duration | None = None

    @model_validator(mode="after")
    def _refuse_pairs(self) -> "StreamOptions":
        if self.bucket and self.chooser:
            raise InputError("--bucket has no use for --chooser; leave one of the two out")
        return self

    def make_chooser(self, buckets: Sequence[BucketEntry]) -> Chooser:
        """Raises InputError for an unknown chooser or bucket."""
        return (
            fixed(buckets, self.bucket) if self.bucket else make_chooser(self.chooser or next(iter(CHOOSERS)), buckets)
        )


def open(bundle: Path | str, camera: Path | str | int | None = None, **options: Any) -> Stream:
    """Opens a camera and a bundle's graphs: `for result in edgeprune.open(bundle, camera): result.labels`.

    Args:
        bundle: its folder. Graphs that this device has to compile first are compiled, once; that takes minutes, in which the
            logger `edgeprune` says what is done.
        camera: what `run --camera` takes: 0, a file, a folder, rtsp://...; None where frames come by `Stream.segment`.
        options: those of `StreamOptions`, by name: `precision`, `bucket`, `chooser`, `engine`, `threads`, `realtime`, `loop`,
            `give_up`.

    Raises:
        InputError: something of it isn't there, or can't be.
        RunError: there is no memory for it, or nothing could be compiled.
    """
    for name in options:
        choose(StreamOptions.model_fields, name, "option")
    if not isinstance(bundle, str | Path):
        raise InputError(f"{bundle!r:.80} is no bundle; give its folder, such as 'out/bundles/street-tiny-onnx-cpu'")
    if not isinstance(camera, str | Path | int | None) or isinstance(camera, bool) or camera == "":
        raise InputError(f"{camera!r:.80} is no camera; give {what_to_type()}, or none for frames of your own")
    uri = None if camera is None else str(camera)
    return open_stream(open_bundle(Path(bundle)), uri, parse(StreamOptions, options, "edgeprune.open"))


def open_stream(bundle: Bundle, camera: str | None, options: StreamOptions) -> Stream:
    """Opens the camera first, then what takes longer; raises as `open`, and leaves nothing open."""
    manifest = bundle.manifest
    engine = options.engine or manifest.target.engine
    opener = require_engine(bundle, engine)
    refuse_threads([engine], options.threads)
    find_task(manifest.task)
    # what is wrong is refused before minutes are spent on compiling; what is chosen from is known after that
    options.make_chooser(manifest.buckets)
    if options.precision and not (options.precision == MIXED and manifest.target.compiled_on_device):
        bundle.graphs(options.precision)
    of_cameras = {"realtime": options.realtime, "loop": options.loop, "give-up": options.give_up is not None}
    if camera is None and any(of_cameras.values()):
        flag = next(name for name, given in of_cameras.items() if given)
        raise InputError(f"--{flag} is of a camera; give one, or leave it out")
    wanted = Wanted(options.realtime, options.loop, within=(manifest.height, manifest.width))
    source = None if camera is None else open_source(camera, wanted)
    with ExitStack() as opened:
        if source:
            opened.callback(source.close)
            if options.give_up is not None and not is_camera(source):
                raise InputError(f"{source.uri} is no live camera, which could be lost; leave --give-up out")
            if source.note:
                logger.info(source.note)
        bundle = prepare_run(bundle, engine)
        precision = options.precision or bundle.default_precision()
        able, lines = ([options.bucket], []) if options.bucket else opener.able(bundle, precision)
        for line in lines:
            logger.warning(line)
        chooser = options.make_chooser(
            [each for each in bundle.manifest.buckets if options.bucket or each.name in able]
        )
        opened.pop_all()
        capture = _capture(source, camera, wanted, options) if source and camera else None  # it closes the source
        if capture:
            opened.callback(capture.close)
        session = opener.open(bundle, precision, buckets=able, threads=options.threads or manifest.target.threads)
        opened.pop_all()
    return Stream(bundle, session, chooser, capture)


def _capture(source: FrameSource, camera: str, wanted: Wanted, options: StreamOptions) -> Capture:
    """The frames of a source; of a camera that is opened anew where it is lost."""
    give_up_s = GIVE_UP_S if options.give_up is None else options.give_up
    if is_camera(source) and give_up_s:
        return Reconnecting(source, lambda: open_source(camera, wanted), give_up_s)
    return open_capture(source)
