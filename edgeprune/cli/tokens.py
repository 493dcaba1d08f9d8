"""`show`: which tokens a policy keeps, as pictures."""

import logging
from collections.abc import Iterable
from contextlib import closing
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
from edgeprune.cli.defaults import default_checkpoint
from edgeprune.cli.options import argument, json_option, option, refuse_typed
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.show import show_json
from edgeprune.cli.verb import verb
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Region
from edgeprune.pruning.token_pictures import Selection, draw_heat, draw_selection, outlined
from edgeprune.quantize.calib import read_calib
from edgeprune.runtime.cameras import Frame, camera_files, open_source
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.sinks.encode import VideoWriter
from edgeprune.runtime.sinks.film import FilmTimes

logger = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    checkpoint: Path | None = argument(default=None)
    camera: str = option("--camera", default="synthetic://street?seed=1", help="As of `run`; or one image file.")
    skip: int = option("--skip", click.IntRange(0, 1_000_000_000), default=0, help="Leave out so many frames first.")
    frames: int = option("--frames", FRAMES, default=100, help="Of a clip.")
    calib: Path | None = option("--calib", help="Default: beside the checkpoint, else the shipped one.")
    out: Path = option(
        "--out",
        default=Path("out/tokens.png"),
        help="A picture of every decision (.png), or a clip (.mp4) of what is found beside the blocks that each token took.",
    )
    json: bool = json_option()

    @property
    def is_clip(self) -> bool:
        """Whether frames become a clip, and no picture."""
        return self.out.suffix == ".mp4"


@verb(
    "show",
    ShowOptions,
    ["edgeprune show --camera street.png", "edgeprune show --camera clip.mp4 --frames 50 --out out/tokens.mp4"],
)
def show(options: ShowOptions) -> None:
    """Show which tokens a policy keeps, as pictures.

    What a CHECKPOINT's policy keeps, merges, takes back or lets go; default: the zoo's street-tiny.
    """
    from edgeprune.model.card import read_header

    out = options.out
    if out.suffix not in (*PICTURES, ".mp4"):
        raise InputError(f"--out {out}: pictures are {', '.join(PICTURES)}, a clip is .mp4")
    if not options.is_clip:
        refuse_typed(f"{out} is one picture", "frames")
    source = options.checkpoint or default_checkpoint()
    own([out], [source, *camera_files(options.camera)])
    card, _ = read_header(source)
    if card.policy.name == "dense":
        refuse_typed(f"{source} is dense and has no thresholds", "calib")
    if options.calib is not None:
        read_calib(options.calib)
    painter = Painter(source, options.calib)
    with closing(open_source(options.camera)) as stream:
        times = FilmTimes(stream)
        for note in (stream.note, times.note if options.is_clip else None):
            if note:
                logger.info(note)
        frames = (frame for frame in stream if frame.index >= options.skip)
        if options.is_clip:
            shares = draw_clip(out, painter, islice(frames, options.frames), times, options.frames)
        else:
            shares = [draw_picture(out, painter, frame) for frame in islice(frames, 1)]
    if not shares:
        raise InputError(f"{stream.uri} ended before frame {options.skip}; give a smaller --skip")
    share = sum(shares) / len(shares)
    if options.json:
        show_json({"out": str(out), "frames": len(shares), "policy": card.policy.name, "token_share": share})
    else:
        click.echo(f"{len(shares)} frames, {share:.1%} of the dense model's tokens over all blocks")
        click.echo(f"wrote {out}")


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
    """

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
        self.depth = self._model.spec.depth

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


def draw_picture(out: Path, painter: Painter, frame: Frame) -> float:
    """Writes a picture of every decision on a frame; returns the share of tokens."""
    drawn = painter.look(frame)
    picture = draw_selection(
        drawn.image_HW3, drawn.found_HW3, drawn.selection, painter.depth, outline_HW=drawn.outline_HW
    )
    with write_atomic(out, "a picture") as partial:
        Image.fromarray(picture).save(partial, "PNG" if out.suffix == ".png" else "JPEG")
    return drawn.share


def draw_clip(out: Path, painter: Painter, frames: Iterable[Frame], times: FilmTimes, wanted: int) -> list[float]:
    """Writes a clip of the classes beside the blocks that each token took; Ctrl-C ends it, as it ends a run.

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
            drawn = painter.look(frame)
            shares.append(drawn.share)
            heat_HW3 = draw_heat(drawn.image_HW3, drawn.selection, painter.depth)
            picture = np.hstack((drawn.found_HW3, outlined(heat_HW3, drawn.outline_HW)))
            writer = writer or VideoWriter(out, times.fps, *picture.shape[:2])
            with held():
                writer.write(picture, times(frame))
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
