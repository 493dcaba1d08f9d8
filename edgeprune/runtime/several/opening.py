"""Opens several cameras and the graphs that serve them all."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.runtime.cameras import AS_IT_COMES, SOURCES, CameraKind, Wanted, camera_files, kind_of, open_source
from edgeprune.runtime.cameras.capture import Capture, is_camera
from edgeprune.runtime.cameras.reconnect import GIVE_UP_S, LOST, Away, open_lasting
from edgeprune.runtime.cameras.source import CameraAway, FrameSource
from edgeprune.runtime.choose import CHOOSERS, OF_MEMORY, PreviousFrame
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.opening import StreamOptions, open_stream
from edgeprune.runtime.several.names import check_cameras
from edgeprune.runtime.stream import Stream

logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """What a run of several cameras goes on with: the graphs, with a budget for all cameras together, and each camera's frames
    by its name."""

    stream: Stream
    captures: Mapping[str, Capture]

    def close_cameras(self) -> None:
        """Closes every camera that is not closed yet."""
        for capture in self.captures.values():
            capture.close()

    def close(self) -> None:
        """Gives back the cameras and what the graphs took; twice is no error."""
        self.close_cameras()
        self.stream.close()


def open_several(
    bundle: Bundle,
    cameras: Mapping[str, str],
    options: StreamOptions,
    meter: Meter | None = None,
    renewed: bool = False,
    later: bool = False,
) -> Opened:
    """Opens every camera first, then what takes longer; leaves nothing open where that fails.

    A live camera that is not there yet, as after a power cut, is opened anew while the others go on, for as long as one that
    was lost; where all are away, that is an error.

    Args:
        cameras: URIs by their names.
        options: of a rate in `budget` each camera is to have it; all else of it is of each frame, or of the machine.
            `realtime`, `loop`, `decode` and `give_up` are of those cameras that have a use for them.
        meter, renewed, later: see `open_stream`.

    Raises:
        InputError: as `open_stream`, of a camera with its name, whatever the others are; or an option that no camera has a use
            for.
    """
    check_cameras(cameras)
    refuse_for_several(options)
    size = (bundle.manifest.height, bundle.manifest.width)
    kinds = _kinds_of(cameras, options)
    wanted = {
        name: Wanted(
            options.realtime and not kind.endless,
            options.loop and not kind.endless,
            within=size,
            decoding=options.parse_decode() if kind.decodes else AS_IT_COMES.decoding,
        )
        for name, kind in kinds.items()
    }
    with ExitStack() as opened:
        sources = _open_sources(
            cameras, wanted, [name for name in kinds if options.give_up != 0 and _may_come(kinds[name])]
        )
        for source in sources.values():
            opened.callback(source.close)
        if options.give_up is not None and not any(map(is_camera, sources.values())):
            raise InputError("no camera is a live one, which could be lost; leave --give-up out")
        of_all = _without_memory(bundle, options) | {"budget": _budget_of_all(options, len(cameras))}
        of_cameras = {"realtime": False, "loop": False, "decode": None, "give_up": None}
        stream = open_stream(bundle, None, options.model_copy(update=of_cameras | of_all), meter, renewed)
        opened.pop_all()
    give_up_s = GIVE_UP_S if options.give_up is None else options.give_up
    captures = {
        # the loop itself gives signs of life: a thread that opens a camera anew would while the loop hangs
        name: open_lasting(
            source, partial(open_source, cameras[name], wanted[name]), give_up_s, lambda: None, name, later=later
        )
        for name, source in sources.items()
    }
    return Opened(stream, captures)


def _without_memory(bundle: Bundle, options: StreamOptions) -> dict[str, Any]:
    """What of the options has to be otherwise: cameras that share graphs have no memory, and none of its buckets.

    Raises:
        InputError: a bucket of the memory was asked for.
    """
    if options.bucket:
        bundle.bucket(options.bucket)
    if options.bucket or options.chooser:
        return {}
    if bundle.manifest.memory:
        logger.info("cameras that share graphs have no memory between frames: each frame is computed by itself")
    return {"chooser": next(iter(CHOOSERS))}  # a bundle that comes later may have one


def _kinds_of(cameras: Mapping[str, str], options: StreamOptions) -> dict[str, CameraKind]:
    """What kind each camera is of; refuses what none of them has a use for."""
    kinds = {}
    for name, uri in cameras.items():
        with naming(name):
            kinds[name] = SOURCES[kind_of(uri)]
    if all(kind.endless for kind in kinds.values()) and (options.realtime or options.loop):
        flag = "--realtime" if options.realtime else "--loop"
        raise InputError(f"{flag} is of files, and all these cameras are live anyway; leave it out")
    if options.decode and not any(kind.decodes for kind in kinds.values()):
        raise InputError("--decode is of cameras that send video, and none of these does; leave it out")
    return kinds


def _may_come(kind: CameraKind) -> bool:
    """Whether a camera that is not there now may be later."""
    return kind.endless and kind is not SOURCES["pipe"]


def _open_sources(
    cameras: Mapping[str, str], wanted: Mapping[str, Wanted], may_come: Collection[str]
) -> dict[str, FrameSource]:
    """Every camera, or what stands for one that may come later; nothing stays open where one can't be opened."""
    sources: dict[str, FrameSource] = {}
    first: Exception | None = None
    with ExitStack() as opened:
        for name, uri in cameras.items():
            try:
                with naming(name):
                    sources[name] = open_source(uri, wanted[name])
            except (CameraAway, *LOST) as error:  # what may pass: a wrong option or password would not
                if name not in may_come:
                    raise
                first = first or error
                sources[name] = Away(uri, error.__cause__ or error)
            opened.callback(sources[name].close)
            if note := sources[name].note:
                logger.info(f"camera {name}: {note}")
        if first and all(isinstance(source, Away) for source in sources.values()):
            raise first
        opened.pop_all()
    return sources


def refuse_for_several(options: StreamOptions) -> None:
    """Refuses what has no meaning for frames of several cameras in turn.

    Raises:
        InputError: names it.
    """
    if options.chooser and CHOOSERS.get(options.chooser) is PreviousFrame:
        raise InputError(
            f"--chooser {options.chooser} goes by the frame before, which is another camera's where there are several; leave "
            "it out"
        )
    if options.chooser in OF_MEMORY:
        raise InputError(
            f"--chooser {options.chooser} is of a memory between frames, which cameras that share graphs have not; leave it out"
        )


def _budget_of_all(options: StreamOptions, count: int) -> str | None:
    """What the engine has to hold for so many cameras."""
    budget = options.parse_budget()
    if budget is None:
        return None
    of_all = budget.for_cameras(count)
    if of_all != budget:
        logger.info(f"budget {budget} for each of {count} cameras: the engine is to hold {of_all}")
    return str(of_all)


def files_of(cameras: Mapping[str, str]) -> list[Path]:
    """What cameras read, by their names; of a run of one camera that one, without a name. Raises InputError as `kind_of`."""
    found: list[Path] = []
    for name, uri in cameras.items():
        with naming(name):
            found += camera_files(uri)
    return found


@contextmanager
def naming(camera: str) -> Iterator[None]:
    """Bad input that a camera causes is said with its name."""
    try:
        yield
    except InputError as error:
        if not camera:
            raise
        kind = CameraAway if isinstance(error, CameraAway) else InputError
        raise kind(f"cameras.{camera}: {error}") from error
