"""`show`: which tokens a policy keeps, or a bundle computes, as pictures."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeprune.base.ending import ending, held
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import write_atomic
from edgeprune.base.owning import own
from edgeprune.bundle import MANIFEST, open_bundle
from edgeprune.cli.bundle_tokens import Beside, BundlePainter
from edgeprune.cli.defaults import default_checkpoint
from edgeprune.cli.options import CHECKPOINT, argument, json_option, option, refuse_typed
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.run_lines import show_memory
from edgeprune.cli.show import show_json
from edgeprune.cli.verb import verb
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Region
from edgeprune.pruning.token_pictures import Selection, draw_heat, draw_selection, outlined
from edgeprune.quantize.calib import read_calib
from edgeprune.runtime.cameras import Frame, FrameSource, camera_files, open_source
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.remembered_tokens import MemoryFigures
from edgeprune.runtime.sinks.encode import VideoWriter
from edgeprune.runtime.sinks.film import FilmTimes

logger = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    shown: Path | None = argument(CHECKPOINT, default=None, metavar="[CHECKPOINT|BUNDLE]")
    camera: str = option("--camera", default="synthetic://street?seed=1", help="As of `run`; or one image file.")
    skip: int = option(
        "--skip",
        click.IntRange(0, 1_000_000_000),
        default=0,
        help="Leave out so many frames first; a bundle with a memory runs through them.",
    )
    frames: int = option("--frames", FRAMES, default=100, help="Of a clip.")
    calib: Path | None = option("--calib", help="Default: beside the checkpoint, else the shipped one.")
    out: Path = option(
        "--out",
        default=Path("out/tokens.png"),
        help="A picture of every decision (.png), or a clip (.mp4) of what is found beside the blocks that each token took; "
        "of a bundle both are what is found beside the tokens that a frame computed.",
    )
    json: bool = json_option()

    @property
    def is_clip(self) -> bool:
        """Whether frames become a clip, and no picture."""
        return self.out.suffix == ".mp4"


@verb(
    "show",
    ShowOptions,
    [
        "edgeprune show --camera street.png",
        "edgeprune show out/bundles/memory --camera clip.mp4 --frames 50 --out out/tokens.mp4",
    ],
)
def show(options: ShowOptions) -> None:
    """Show which tokens a policy keeps, as pictures.

    What a CHECKPOINT's policy keeps, merges, takes back or lets go, or which tokens a BUNDLE (a folder) computes in each frame;
    default: the zoo's street-tiny.
    """
    out = options.out
    if out.suffix not in (*PICTURES, ".mp4"):
        raise InputError(f"--out {out}: pictures are {', '.join(PICTURES)}, a clip is .mp4")
    if not options.is_clip:
        refuse_typed(f"{out} is one picture", "frames")
    shown = options.shown or default_checkpoint()
    own([out], [shown, *camera_files(options.camera)])
    with ExitStack() as opened:
        painter = open_painter(shown, options.calib)
        opened.callback(painter.close)
        source = opened.enter_context(closing(open_source(options.camera)))
        times = FilmTimes(source)
        for note in (source.note, times.note if options.is_clip else None):
            if note:
                logger.info(note)
        frames = painter.shown(source, options.skip)
        if options.is_clip:
            shares = draw_clip(out, painter, islice(frames, options.frames), times, options.frames)
        else:
            shares = [draw_picture(out, painter, frame) for frame in islice(frames, 1)]
    if not shares:
        raise InputError(f"{source.uri} ended before frame {options.skip}; give a smaller --skip")
    share, memory = sum(shares) / len(shares), painter.memory
    if options.json:
        found = {"out": str(out), "frames": len(shares), "policy": painter.policy, "token_share": share}
        show_json(found | ({"memory": vars(memory)} if memory else {}))
    else:
        click.echo(f"{len(shares)} frames, {share:.1%} of the dense model's tokens over all blocks")
        show_memory(memory, len(shares))
        click.echo(f"wrote {out}")


def open_painter(shown: Path, calib: Path | None) -> "Painter | BundlePainter":
    """Of a checkpoint or a bundle.

    Raises:
        InputError: it is neither, is damaged, has nothing to show, or has no use for a calibration.
    """
    if os.path.lexists(shown / MANIFEST):
        refuse_typed(f"{shown} is a bundle, which holds its thresholds", "calib")
        return BundlePainter(open_bundle(shown))
    if shown.name == MANIFEST and shown.is_file():
        raise InputError(f"{shown} is a file of a bundle; name the bundle's folder: {shown.parent}")
    from edgeprune.model.card import read_header

    card, _ = read_header(shown)
    if card.policy.name == "dense":
        refuse_typed(f"{shown} is dense and has no thresholds", "calib")
    if calib is not None:
        read_calib(calib)
    return Painter(shown, calib)


@dataclass(frozen=True)
class Drawn:
    """A frame at the model's input size, its classes or its things over it, what the policy decided, the share of tokens over
    blocks, and the outlines of the things, where the model finds some."""

    image_HW3: UInt8
    found_HW3: UInt8
    selection: Selection
    share: float
    outline_HW: npt.NDArray[np.bool_] | None = None


class Painter:
    """What a checkpoint's policy does with frames.

    Args:
        calib: what its gates are cut at; None: what lies beside the checkpoint, else what is shipped.

    Attributes:
        policy: its name.
        memory: nothing is remembered.
    """

    memory: MemoryFigures | None = None

    def __init__(self, checkpoint: Path, calib: Path | None) -> None:
        # torch takes seconds: what was given has been read
        from edgeprune.export.inputs import find_inputs
        from edgeprune.quantize.calibrate import model_thresholds
        from edgeprune.quantize.loading import load

        self._model, self._card = load(checkpoint)
        found = find_inputs(checkpoint, calib, None).calib if self._model.policy.gated else None
        self._thresholds = model_thresholds(self._model, found) if found else None
        self._model.restrict(Region.of(found.region) if found else None)
        self._fit = Preprocess.of(self._model.spec)
        self.depth, self.policy = self._model.spec.depth, self._card.policy.name

    def shown(self, source: FrameSource, skip: int) -> Iterator[Frame]:
        """The frames of a source but for the first."""
        return (frame for frame in source if frame.index >= skip)

    def look(self, frame: Frame) -> Drawn:
        """The decisions on a frame."""
        from edgeprune.pruning.found_picture import draw_found
        from edgeprune.pruning.one_frame import predict, selection_of

        image_HW3 = self._fit.fit(frame.image_HW3)
        prediction = predict(self._model, image_HW3, self._thresholds)
        selection = selection_of(self._model, prediction.masked)
        share = selection.token_share(self.depth)
        about = f"{self._card.name}, {self._card.policy.name}: {share:.0%} of the tokens"
        found = draw_found(self._model, self._card, image_HW3, prediction.raw, about)
        return Drawn(image_HW3, found.picture_HW3, selection, share, found.outline_HW)

    def beside(self, frame: Frame) -> Beside:
        """What is found, beside the blocks that each token took."""
        drawn = self.look(frame)
        heat_HW3 = draw_heat(drawn.image_HW3, drawn.selection, self.depth)
        return Beside(np.hstack((drawn.found_HW3, outlined(heat_HW3, drawn.outline_HW))), drawn.share)

    def picture(self, frame: Frame) -> Beside:
        """Every decision."""
        drawn = self.look(frame)
        picture_HW3 = draw_selection(
            drawn.image_HW3, drawn.found_HW3, drawn.selection, self.depth, outline_HW=drawn.outline_HW
        )
        return Beside(picture_HW3, drawn.share)

    def close(self) -> None:
        """There is nothing to give back."""


def draw_picture(out: Path, painter: Painter | BundlePainter, frame: Frame) -> float:
    """Writes a picture of a frame; returns the share of tokens."""
    drawn = painter.picture(frame)
    with write_atomic(out, "a picture") as partial:
        Image.fromarray(drawn.picture_HW3).save(partial, "PNG" if out.suffix == ".png" else "JPEG")
    return drawn.share


def draw_clip(
    out: Path, painter: Painter | BundlePainter, frames: Iterable[Frame], times: FilmTimes, wanted: int
) -> list[float]:
    """Writes a clip of what is found beside what became of the tokens; Ctrl-C ends it, as it ends a run.

    Args:
        wanted: how many frames there are, where the stream has as many.

    Returns:
        the share of tokens of each frame.

    Raises:
        InputError, RunError: a frame can't be read, or the clip not written; it is kept up to there.
    """
    writer: VideoWriter | None = None
    shares: list[float] = []
    whole, failure = False, None
    try:
        for frame in frames:
            drawn = painter.beside(frame)
            shares.append(drawn.share)
            writer = writer or VideoWriter(out, times.fps, *drawn.picture_HW3.shape[:2])
            with held():
                writer.write(drawn.picture_HW3, times(frame))
            if len(shares) % 25 == 0 and len(shares) < wanted:
                logger.info(f"{len(shares)} of {wanted} frames")
        whole = True
    except KeyboardInterrupt:
        if not writer:
            raise
        whole = True
    except (InputError, RunError) as error:
        if not writer:
            raise
        failure = error if isinstance(error, RunError) else RunError(str(error))
    finally:
        if writer:
            with ending():
                try:
                    writer.close() if whole else writer.abandon()
                except RunError as error:
                    failure = RunError(f"{failure}; {error}") if failure else error
    if failure and writer:
        where = f" are in {writer.kept}" if writer.kept and str(writer.kept) not in str(failure) else " were drawn"
        raise type(failure)(f"{failure}; {len(shares)} frames until then{where}")
    return shares
