"""What decoding of a clip costs, as it is and scaled in the decoder, and how many labels differ.

    python -m edgeprune.lab.decoding out/bundles/street-tiny-onnx-cpu clip.mp4

Processor time of a frame, in rounds that take turns: decoding with the conversion to RGB, and the fit to the model's input.
Others who use the machine spread it less than the time of the clock. Labels are those of the last bucket in FP32, in its own
resolution, so that nothing but the frame's pixels makes a difference.
"""

import sys
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import write_json
from edgeprune.bundle import open_bundle
from edgeprune.bundle.target import SEMANTIC
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras import Wanted, camera_files, open_source
from edgeprune.runtime.cameras.decoding import Decoding, read_decoding
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.engine import UInt8

TYPED = "python -m edgeprune.lab.decoding"


class Pass(NamedTuple):
    """One pass over a clip: the decoder, processor milliseconds of a frame, and the fitted frames."""

    decoder: str | None
    decode_ms: float
    fit_ms: float
    fitted_HW3: list[UInt8]


def pass_over(clip: str, fit: Preprocess, decoding: Decoding, frames: int) -> Pass:
    """Reads so many frames of a clip as a run does."""
    source = open_source(clip, Wanted(within=(fit.height, fit.width), decoding=decoding))
    decode_s = fit_s = 0.0
    fitted = []
    try:
        began_s = time.process_time()
        for frame in islice(source, frames):
            decoded_s = time.process_time()
            fitted.append(fit.fit(frame.image_HW3))
            fitted_s = time.process_time()
            decode_s, fit_s = decode_s + decoded_s - began_s, fit_s + fitted_s - decoded_s
            began_s = time.process_time()
    finally:
        source.close()
    return Pass(source.decoder, 1000 * decode_s / len(fitted), 1000 * fit_s / len(fitted), fitted)


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clip")
@click.option("--frames", default=60, show_default=True, type=click.IntRange(1, 1000))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--decode", default="software", show_default=True, help="As of `run`, without `scaled`.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it as JSON.")
def main(bundle: Path, clip: str, frames: int, rounds: int, decode: str, out: Path | None) -> None:
    if out:
        own([out], [bundle, *camera_files(clip)])
    opened = open_bundle(bundle)
    if opened.manifest.task != SEMANTIC:
        raise InputError(
            f"{bundle} is of task {opened.manifest.task}, and labels are compared here; name a bundle of task {SEMANTIC}"
        )
    by = read_decoding(decode).by
    fit = Preprocess.of(opened.manifest)
    ways = {"as it is": Decoding(by), "scaled": Decoding(by, scaled=True)}
    passes = {name: [pass_over(clip, fit, way, frames)] for name, way in ways.items()}
    for _ in range(rounds - 1):
        for name, way in ways.items():
            passes[name].append(pass_over(clip, fit, way, frames)._replace(fitted_HW3=[]))
    table = {}
    for name, of_way in passes.items():
        decode_ms, fit_ms = (median(getattr(each, key) for each in of_way) for key in ("decode_ms", "fit_ms"))
        table[name] = {"decoder": of_way[0].decoder, "decode_ms": decode_ms, "fit_ms": fit_ms}
        click.echo(f"{name:9}  decode {decode_ms:6.2f} ms, fit {fit_ms:6.2f} ms of a frame  {of_way[0].decoder}")
    first, second = (of_way[0].fitted_HW3 for of_way in passes.values())
    grey = float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(first, second, strict=True)]))
    bucket = opened.manifest.buckets[-1].name
    session = ENGINES[opened.manifest.target.engine].open(opened, "fp32", buckets=[bucket], threads=1)
    try:
        equal = []
        for a_HW3, b_HW3 in zip(first, second, strict=True):
            found = []
            for image_HW3 in (a_HW3, b_HW3):
                session.start(image_HW3)
                found.append(np.array(session.finish(bucket)["labels"]))
            equal.append(float((found[0] == found[1]).mean()))
    finally:
        session.close()
    shares = {"mean": float(np.mean(equal)), "least": min(equal)}
    click.echo(
        f"pixels of the input differ by {grey:.2f} of 255; labels equal {shares['mean']:.2%}, least {shares['least']:.2%}"
    )
    if out:
        write_json(out, {"ways": table, "grey_levels": grey, "labels_equal": shares, "frames": len(first)})


if __name__ == "__main__":
    sys.exit(run_click(main, "decoding", TYPED))
