"""What a bundle's memory between frames is worth on clips: its labels and its time beside those of each frame by itself, and
of the dense network in FP32.

    edgeprune build --memory --out out/bundles/memory
    python -m edgeprune.lab.remembered out/bundles/memory ../shared/data/streams/car-detection.mp4

    python -m edgeprune.lab.remembered out/bundles/memory 'synthetic://street?seed=900000003&speed=0' --loops 10

Each frame goes through all ways in turn, in one process. Times are of the graphs, without fitting.

`equal` is the share of labels that are the dense network's; `least` of the worst frame; `where it changed` of the pixels whose
dense label is another than in the frame before. Where a clip has labels (the synthetic street, --data) there are the mIoU of
all frames, and video consistency over eight and sixteen (see `lab.through_time`).

`small moving`, of such clips: the share of right labels among the pixels of all connected parts (8 neighbours) of one class
that the data set counts as things (of the street and CamVid poles, signs, cars, pedestrians, bicyclists), of fewer than 32x32
pixels of the input, a tenth or more of whose pixels had the true label of another class in the frame before.

`warped`: the share of labels that are those of the frame before, moved by the optical flow between the two, of the pixels whose
flow is consistent forward and backward. It and `labels carried by optical flow` need the extra `flow`.

`labels repeated` labels every so many frames by themselves, as seldom as makes it take as long on the mean as remembering;
`labels carried by optical flow` too, the time of the flow counted, and moves them to the frames between.

Between several clips is a cut, over which no change is counted. The table of cuts has the share of labels of each clip's first
frame that are the dense network's: remembered, by itself, and by itself in the bucket of all tokens (`full`); and the `tokens`
that the memory computed of it, all where it noticed the cut. Where the camera of the clip before moves it was not in use.

--loops goes on through the memory alone, without a reset, and compares the first whole loop with the last, all their frames.
The very first frame is computed whole. Give it one clip of a camera that stands: of one that moves the `tokens` of the two
loops differ, and between several clips, or where the end of a clip is unlike its beginning, the memory notices a cut and begins
anew, and nothing can drift.
"""

import sys
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.references import LABELS
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.remembered import cuts, loops, rows
from edgeprune.lab.remembered.clips import LEAST_FRAMES, Clip, read_clip, read_data
from edgeprune.lab.remembered.flow import LEFT_OUT, find_flow
from edgeprune.lab.remembered.ways import REMEMBERED, ask, open_ways
from edgeprune.runtime.cameras import camera_files
from edgeprune.runtime.engines import ENGINES

TYPED = "python -m edgeprune.lab.remembered"


def read_clips(bundle: Bundle, names: tuple[str, ...], data: str | None, frames: int) -> list[Clip]:
    """Those of cameras, and then that of a data set. Raises InputError where there is none."""
    fit = Preprocess.of(bundle.manifest)
    clips = [read_clip(name, bundle.manifest.names, fit, frames) for name in names]
    if data:
        clips.append(read_data(data, bundle, fit, frames))
    if not clips:
        raise InputError("no clip was given; name a video, 'synthetic://street?seed=1&speed=0', or --data camvid")
    return clips


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clip", nargs=-1)
@click.option("--data", help="A data set whose val split, in the order of its names, is one more clip, with labels.")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="By default the bundle's.")
@click.option(
    "--frames", default=150, show_default=True, type=click.IntRange(LEAST_FRAMES, 10**5), help="In a row, of each clip."
)
@click.option(
    "--loops", "times", default=1, show_default=True, type=click.IntRange(1, 10**6), help="All clips so often."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the rows as CSV; those of cuts and loops beside it, as NAME-cuts.csv and NAME-loops.csv.",
)
def main(
    bundle: Path, clip: tuple[str, ...], data: str | None, engine: str | None, frames: int, times: int, out: Path | None
) -> None:
    beside: dict[str, Path] = {}
    if out:
        beside = {kind: out.with_name(f"{out.stem}-{kind}{out.suffix}") for kind in ("cuts", "loops")}
        own([out, *beside.values()], [bundle, *(file for name in clip for file in camera_files(name))])
    opened = open_bundle(bundle)
    opened.with_memory()
    if LABELS not in opened.manifest.outputs:
        raise InputError(f"{bundle} answers with things, and this study compares labels; name a bundle of areas")
    engine, threads = engine or opened.manifest.target.engine, opened.manifest.target.threads
    clips = read_clips(opened, clip, data, frames)
    found_loops = []
    with open_ways(opened, engine, threads) as graphs:
        judged, ways = ask(graphs, clips)
        if times > 1:
            remembered = ways[REMEMBERED]
            first = loops.score_loop(judged, zip(remembered.answers, remembered.tokens, strict=True))
            last = loops.loop_on(
                graphs.streams[REMEMBERED], clips, judged, times, lambda line: click.echo(line, err=True)
            )
            found_loops = loops.compare_loops(first, last, times, len(judged.dense))
    found_cuts = []
    if len(clips) > 1:
        found_cuts = cuts.after_cuts(clips, judged, ways, cuts.ask_full(opened, clips, engine, threads))
    flow = find_flow(threads)
    found = rows.compare(clips, judged, ways, flow)

    for shown in clips:
        click.echo(f"{len(shown.images)} frames of {shown.name}, {engine}")
    click.echo(render_table(found, rows.SHOWN))
    if not flow:
        click.echo(LEFT_OUT, err=True)
    if found_cuts:
        click.echo("\nfirst after a cut, labels equal to the dense network's\n" + render_table(found_cuts, cuts.SHOWN))
    if found_loops:
        click.echo("\n" + render_table(found_loops, loops.SHOWN))
    if out:
        write_csv(out, found)
        for kind, more in (("cuts", found_cuts), ("loops", found_loops)):
            if more:
                write_csv(beside[kind], more)
            else:
                beside[kind].unlink(missing_ok=True)  # an earlier run's would be taken for this one's


if __name__ == "__main__":
    sys.exit(run_click(main, "remembered", TYPED))
