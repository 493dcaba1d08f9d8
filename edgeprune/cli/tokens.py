"""`show`: which tokens a policy keeps, as pictures."""

import logging
from pathlib import Path

import click
import numpy as np
from PIL import Image

from edgeprune.base.ending import ending, held
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import write_atomic
from edgeprune.cli.defaults import default_checkpoint
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.run import camera_files
from edgeprune.cli.show import as_json, show_json
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.token_pictures import draw_heat, draw_selection
from edgeprune.quantize.calib import read_calib
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.sinks.encode import VideoWriter
from edgeprune.runtime.sinks.film import FilmTimes
from edgeprune.runtime.sinks.overlay import Overlay

logger = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg")


@click.command()
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "--camera", default="synthetic://street?seed=1", show_default=True, help="As of `run`; or one image file."
)
@click.option(
    "--skip",
    default=0,
    show_default=True,
    type=click.IntRange(0, 1_000_000_000),
    help="Leave out so many frames first.",
)
@click.option("--frames", default=100, show_default=True, type=FRAMES, help="Of a clip.")
@click.option("--calib", type=click.Path(path_type=Path), help="Default: beside the checkpoint, else the shipped one.")
@click.option(
    "--out",
    default=Path("out/tokens.png"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="A picture of every decision (.png) or a clip (.mp4) of the classes beside the blocks that each token took.",
)
@as_json
def show(
    checkpoint: Path | None, camera: str, skip: int, frames: int, calib: Path | None, out: Path, json_: bool
) -> None:
    """Show which tokens a CHECKPOINT's policy keeps, merges, takes back or lets go; default: the zoo's street-tiny."""
    from edgeprune.model.card import read_header

    if out.suffix not in (*PICTURES, ".mp4"):
        raise InputError(f"--out {out}: pictures are {', '.join(PICTURES)}, a clip is .mp4")
    source = checkpoint or default_checkpoint()
    own([out], [source, *camera_files(camera)])
    read_header(source)
    if calib is not None:
        read_calib(calib)
    # torch takes seconds: what was given has been read
    from edgeprune.export.inputs import find_inputs
    from edgeprune.lab.ablate import select_tokens
    from edgeprune.quantize.loading import load

    model, card = load(source)
    calibration = find_inputs(source, calib, None).calib if model.policy.gated else None
    height, width, depth = model.spec.height, model.spec.width, model.spec.depth
    fit, overlay = Preprocess.of(model.spec), Overlay(card.names, card.palette)
    wanted = frames if out.suffix == ".mp4" else 1
    writer: VideoWriter | None = None
    shares: list[float] = []
    stream = open_source(camera)
    times = FilmTimes(stream)
    for note in (stream.note, times.note if out.suffix == ".mp4" else None):
        if note:
            logger.info(note)
    failed = True
    failure: RunError | None = None
    try:
        for frame in stream:
            if frame.index < skip:
                continue
            image_HW3 = fit.fit(frame.image_HW3)
            selection, label_hw = select_tokens(model, image_HW3, calibration)
            shares.append(selection.token_share(depth))
            label_HW = label_hw.repeat(height // label_hw.shape[0], 0).repeat(width // label_hw.shape[1], 1)
            classes_HW3 = overlay.draw(
                image_HW3, label_HW, f"{card.name}, {card.policy.name}: {shares[-1]:.0%} of the tokens"
            )
            if out.suffix != ".mp4":
                picture = draw_selection(image_HW3, classes_HW3, selection, depth)
                with write_atomic(out, "a picture") as partial:
                    Image.fromarray(picture).save(partial, "PNG" if out.suffix == ".png" else "JPEG")
                break
            heat_HW3 = draw_heat(image_HW3, selection, depth)
            writer = writer or VideoWriter(out, times.fps, height, 2 * width)
            with held():
                writer.write(np.hstack((classes_HW3, heat_HW3)), times(frame))
            if len(shares) == wanted:
                break
            if len(shares) % 25 == 0:
                logger.info(f"{len(shares)} of {wanted} frames")
        failed = False
    except KeyboardInterrupt:  # as in a run: the clip ends here
        if not writer:
            raise
        failed = False
    except (InputError, RunError) as error:
        if not writer:
            raise
        failure = error if isinstance(error, RunError) else RunError(str(error))
    finally:
        stream.close()
        if writer:
            with ending():
                try:
                    writer.abandon() if failed else writer.close()
                except RunError as error:
                    failure = RunError(f"{failure}; {error}") if failure else error
    if failure and writer:
        where = f" are in {writer.kept}" if writer.kept and str(writer.kept) not in str(failure) else " were drawn"
        raise type(failure)(f"{failure}; {len(shares)} frames until then{where}")
    if not shares:
        raise InputError(f"{stream.uri} ended before frame {skip}; give a smaller --skip")
    result = {
        "out": str(out),
        "frames": len(shares),
        "policy": card.policy.name,
        "token_share": sum(shares) / len(shares),
    }
    if json_:
        show_json(result)
    else:
        click.echo(
            f"{result['frames']} frames, {result['token_share']:.1%} of the dense model's tokens over all blocks"
        )
        click.echo(f"wrote {out}")
