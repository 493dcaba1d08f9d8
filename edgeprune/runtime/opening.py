"""`edgeprune.open`, and what `run` opens its stream by: options, engine, buckets, camera, budget."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from edgeprune.base.duration import read_duration
from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.base.reading import Strict, parse
from edgeprune.bundle import MIXED, BucketEntry, Bundle, open_bundle
from edgeprune.bundle.memory import STILL
from edgeprune.bundle.runtime_spec import MOST_THREADS
from edgeprune.runtime.budget.start import refuse_unmetered, start_governor
from edgeprune.runtime.budget.wanted import Budget, parse_budget
from edgeprune.runtime.cameras import Wanted, open_source, refuse_undecoded, what_to_type
from edgeprune.runtime.cameras.capture import Capture, is_camera
from edgeprune.runtime.cameras.decoding import AUTO, Decoding, read_decoding
from edgeprune.runtime.cameras.reconnect import GIVE_UP_S, open_lasting, open_or_wait
from edgeprune.runtime.choose import CHOOSERS, NEXT_FRAME, OF_MEMORY, Chooser, fixed, make_chooser
from edgeprune.runtime.compiling import graphs_in
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.precision_choice import TRUNK
from edgeprune.runtime.preparing import prepare_run, refuse_threads, require_engine
from edgeprune.runtime.renewal import Renewal
from edgeprune.runtime.running import Running
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.switching import Switching, answers_otherwise, too_slow
from edgeprune.runtime.tasks import open_task

Given = Annotated[str, Field(min_length=1)]
Duration = Annotated[float, BeforeValidator(lambda given: read_duration(given, "--give-up"))]

logger = logging.getLogger(__name__)


class StreamOptions(Strict, frozen=True, strict=True):
    """What of a bundle runs, and how a file is played; what can't be is refused, by `edgeprune.open` and `run` alike.

    Attributes:
        precision: that the bundle was built in; by default the fastest.
        bucket: always this one; by default it is chosen for each frame.
        chooser: a key of CHOOSERS; by default the first.
        budget: what a frame or a second may take, such as `33ms` or `15fps,10W` (`budget/wanted.py`); by default anything.
        engine: a key of ENGINES; by default the target's.
        threads: of the engine; by default the target's.
        realtime: paces a file at its own rate, and drops what comes too fast.
        loop: starts a file again at its end.
        decode: by what video is decoded, and whether it comes scaled: "software", "auto,scaled" (`cameras/decoding.py`); by
            default hardware where there is any, and as large as it is.
        give_up: a live camera that is lost, or not there yet, is opened anew for so long, in seconds or as "5m"; 0: never. By
            default GIVE_UP_S for one that is lost, and never for one that is not there.
    """

    precision: Given | None = None
    bucket: Given | None = None
    chooser: Given | None = None
    budget: Given | None = None
    engine: Given | None = None
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    realtime: bool = False
    loop: bool = False
    decode: Given | None = None
    give_up: Duration | None = None

    @model_validator(mode="after")
    def _refuse_pairs(self) -> "StreamOptions":
        if self.bucket and self.chooser:
            raise InputError("--bucket has no use for --chooser; leave one of the two out")
        if self.bucket and self.budget:
            raise InputError("--budget has no choice where --bucket leaves one bucket; leave one of the two out")
        if self.budget and self.chooser == NEXT_FRAME:
            raise InputError(
                "--chooser next-frame lets what changed wait, and --budget computes less of it: together tokens would wait "
                "without end; leave one of the two out"
            )
        self.parse_budget()
        self.parse_decode()
        return self

    def parse_decode(self) -> Decoding:
        """Raises InputError for what can't be read."""
        return read_decoding(self.decode or AUTO)

    def parse_budget(self) -> Budget | None:
        """Raises InputError for one that can't be read."""
        return parse_budget(self.budget) if self.budget else None

    def ways(self, bundle: Bundle) -> list[Bundle]:
        """What of a bundle runs, that which begins first: where it has a memory its graphs, and its own, by turns; one of the
        two where a chooser that is none of a memory, or a bucket, was asked for.

        Raises:
            InputError: an unknown bucket, or STILL, in which no frame would ever be computed.
        """
        own, memory = {bucket.name: bucket for bucket in bundle.manifest.buckets}, bundle.manifest.memory
        if memory is None or (self.chooser and self.chooser not in OF_MEMORY) or self.bucket in own:
            return [bundle]
        if self.bucket:
            choose(
                own | {bucket.name: bucket for bucket in memory.buckets if bucket.name != STILL}, self.bucket, "bucket"
            )
        return [bundle.with_memory()] if self.bucket else [bundle.with_memory(), bundle]

    def chosen_by(self, beside_memory: bool = False) -> str:
        """The one bucket of all frames, or a key of CHOOSERS. `beside_memory`: see `make_chooser`."""
        default = next(iter(CHOOSERS))
        return self.bucket or (default if beside_memory else self.chooser or default)

    def make_chooser(self, buckets: Sequence[BucketEntry], beside_memory: bool = False) -> Chooser:
        """
        Args:
            beside_memory: whether these are of frames by themselves, of a bundle whose memory runs by turns with them.

        Raises:
            InputError: an unknown chooser or bucket, or one that these buckets can't have.
        """
        chosen_by = self.chosen_by(beside_memory)
        return fixed(buckets, chosen_by) if self.bucket else make_chooser(chosen_by, buckets)


def open(bundle: Path | str, camera: Path | str | int | None = None, **options: Any) -> Stream:
    """Opens a camera and a bundle's graphs: `for result in edgeprune.open(bundle, camera): result.labels`.

    Args:
        bundle: its folder. Graphs that this device has to compile first are compiled, once; that takes minutes, in which the
            logger `edgeprune` says what is done.
        camera: what `run --camera` takes: 0, a file, a folder, rtsp://...; None where frames come by `Stream.segment`.
        options: those of `StreamOptions`, by name: `precision`, `bucket`, `chooser`, `budget`, `engine`, `threads`, `realtime`,
            `loop`, `decode`, `give_up`.

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


def open_stream(
    bundle: Bundle,
    camera: str | None,
    options: StreamOptions,
    meter: Meter | None = None,
    renewed: bool = False,
    later: bool = False,
) -> Stream:
    """Opens the camera first, then what takes longer; raises as `open`, and leaves nothing open.

    Args:
        meter: that a budget of power or energy is held by; who gives it starts and stops it.
        renewed: whether a new bundle in the folder is taken while frames go on (`renewal.py`).
        later: whether the camera rests until its first frame is asked for (`open_lasting`).
    """
    manifest, budget = bundle.manifest, options.parse_budget()
    _refuse_unfit(bundle, options)
    if budget:
        refuse_unmetered(budget, meter)
    of_cameras = {
        "realtime": options.realtime,
        "loop": options.loop,
        "decode": options.decode is not None,
        "give-up": options.give_up is not None,
    }
    if camera is None and any(of_cameras.values()):
        flag = next(name for name, given in of_cameras.items() if given)
        raise InputError(f"--{flag} is of a camera; give one, or leave it out")
    within = (manifest.height, manifest.width)
    wanted = Wanted(options.realtime, options.loop, within=within, decoding=options.parse_decode())
    if options.decode and camera is not None:
        refuse_undecoded(camera)
    opener = partial(open_source, camera or "", wanted)
    source = None if camera is None else open_or_wait(camera, opener, options.give_up)
    with ExitStack() as opened:
        if source:
            opened.callback(source.close)
            if options.give_up is not None and not is_camera(source):
                raise InputError(f"{source.uri} is no live camera, which could be lost; leave --give-up out")
            if source.note:
                logger.info(source.note)
        prepared = _prepare(bundle.where_it_led() if renewed else bundle, options)  # a link may lead elsewhere by now
        opened.pop_all()
        capture: Capture | None = None
        if source:
            give_up_s = GIVE_UP_S if options.give_up is None else options.give_up
            # it closes the source
            capture = open_lasting(source, opener, give_up_s, from_start=options.give_up is not None, later=later)
        if capture:
            opened.callback(capture.close)
        running = _begin(prepared, options, meter)
        opened.pop_all()
    if not renewed:
        return Stream.of(running, capture)

    def begin_another(other: Bundle) -> Running:
        _refuse_unfit(other, options)
        return _begin(_prepare(other, options), options, meter)

    return Stream.of(running, capture, Renewal(bundle, begin_another, budget))


def _refuse_unfit(bundle: Bundle, options: StreamOptions) -> None:
    """Refuses what is wrong before minutes are spent on compiling; what is chosen from is known after that."""
    manifest = bundle.manifest
    engine = options.engine or manifest.target.engine
    require_engine(bundle, engine)
    refuse_threads([engine], options.threads)
    open_task(manifest)
    options.make_chooser(options.ways(bundle)[0].manifest.buckets)
    if options.precision and not (options.precision == MIXED and manifest.target.compiled_on_device):
        bundle.graphs(options.precision)


class _Prepared(NamedTuple):
    """A bundle as this device runs it, the precision, the buckets that can run here, and what chooses among them."""

    bundle: Bundle
    precision: str
    able: list[str]
    chooser: Chooser
    chosen_by: str


def _prepare(bundle: Bundle, options: StreamOptions) -> list[_Prepared]:
    """Compiles what has to be compiled, and says what can't run here; for each way of the options."""
    engine = options.engine or bundle.manifest.target.engine
    found: list[_Prepared] = []
    beside: list[Path] = []  # the graphs of frames by themselves, which come first: a memory takes what room they leave
    for way in reversed(options.ways(prepare_run(bundle, engine))):
        of_itself = way.remembers and options.precision == MIXED  # asked for of its own graphs
        precision = way.default_precision() if of_itself or not options.precision else options.precision
        graphs = graphs_in(way, precision).values()
        if way.remembers and not options.bucket and (why := ENGINES[engine].cannot_remember(graphs)):
            logger.warning(f"memory is left out: {why}")
            continue
        try:
            able, lines = ([options.bucket], []) if options.bucket else ENGINES[engine].able(way, precision, beside)
        except RunError as error:
            if not way.remembers:
                raise
            logger.warning(f"memory is left out: {error}")
            continue
        for line in lines:
            logger.warning(line)
        buckets = [each for each in way.manifest.buckets if options.bucket or each.name in able]
        of_both = not way.remembers and options.chooser in OF_MEMORY  # without a memory that is refused by now
        chooser = options.make_chooser(buckets, of_both)
        found.insert(0, _Prepared(way, precision, able, chooser, options.chosen_by(of_both)))
        beside = [path for name, path in graphs_in(way, precision).items() if name == TRUNK or name in able]
    return found


def _begin(prepared: Sequence[_Prepared], options: StreamOptions, meter: Meter | None) -> Running:
    """Opens the graphs of each way and measures them for a budget; without room for both, those of a frame by itself."""
    if len(prepared) == 1:
        return _begin_one(prepared[0], options, meter)
    try:
        with ExitStack() as opened:
            running = []
            for each in prepared:
                running.append(_begin_one(each, options, meter))
                opened.callback(running[-1].close)
            why = answers_otherwise(running[0]) or too_slow(*running)
            opened.pop_all()
    except RunError as error:
        logger.warning(f"memory is left out: {error}")
        return _begin_one(prepared[-1], options, meter)
    if why:
        running[0].close()
        logger.warning(f"memory is left out: {why}")
        return running[1]
    return Switching(*running)


def _begin_one(prepared: _Prepared, options: StreamOptions, meter: Meter | None) -> Running:
    bundle, precision, able, chooser, chosen_by = prepared
    manifest, budget = bundle.manifest, options.parse_budget()
    opener = ENGINES[options.engine or manifest.target.engine]
    session = opener.open(bundle, precision, buckets=able, threads=options.threads or manifest.target.threads)
    with ExitStack() as opened:
        opened.callback(session.close)
        size, tails = (manifest.height, manifest.width), [name for name in able if name != STILL]
        governor = start_governor(budget, session, tails, size, meter) if budget else None
        opened.pop_all()
    return Running(bundle, session, chooser, governor, able, chosen_by)
