"""What a bundle's memory between frames is worth on clips: its labels and its time beside those of each frame by itself, and
of the dense network in FP32.

    edgeprune build --memory --out out/bundles/memory
    python -m edgeprune.lab.remembered out/bundles/memory ../shared/data/streams/car-detection.mp4

    python -m edgeprune.lab.remembered out/bundles/memory 'synthetic://street?seed=900000003&speed=0' --loops 10

Each frame goes through all ways in turn, in one process. Times are of the graphs, without fitting.

A bundle that finds things takes the clips of a data set of things, each its frames one after the other by their names:

    python -m edgeprune.lab.street_instances out/parked --data street-traffic --frames-per-drive 40 --speed 0 --val 80
    python -m edgeprune.lab.remembered out/bundles/things --data out/parked

and has mask and box AP of each way, the share of the dense network's things that it finds (`equal`), and `flicker`: by how many
the number of things in a frame differs from that of the frame before. What follows is of labels.

`equal` is the share of labels that are the dense network's; `least` of the worst frame; `where it changed` of the pixels whose
dense label is another than in the frame before. Labels of the bars beside a picture of another shape than the input are
compared nowhere. Where a clip has labels (the synthetic street, --data) there are the mIoU of all frames, and video consistency
over eight and sixteen (see `lab.through_time`).

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.references import LABELS
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.remembered import cuts, loops, rows, things
from edgeprune.lab.remembered.clips import LEAST_FRAMES, Clip, read_clip, read_data
from edgeprune.lab.remembered.flow import LEFT_OUT, find_flow
from edgeprune.lab.remembered.ways import REMEMBERED, ask, open_ways
from edgeprune.runtime.cameras import camera_files
from edgeprune.runtime.engines import ENGINES

TYPED = "python -m edgeprune.lab.remembered"
FILES = {"rows": "", "cuts": "-cuts", "loops": "-loops"}  # what is added to the name of --out for each table
Tables = Mapping[str, Sequence[Any]]


def read_clips(bundle: Bundle, names: tuple[str, ...], data: str | None, frames: int) -> list[Clip]:
    """Those of cameras, and then that of a data set. Raises InputError where there is none."""
    fit = Preprocess.of(bundle.manifest)
    clips = [read_clip(name, bundle.manifest.names, fit, frames) for name in names]
    if data:
        clips += read_data(data, bundle, fit, frames)
    if not clips:
        raise InputError("no clip was given; name a video, 'synthetic://street?seed=1&speed=0', or --data camvid")
    return clips


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clip", nargs=-1)
@click.option("--data", help="A data set whose val split has clips with labels, by the numbers in its names.")
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
    files = {} if out is None else {kind: out.with_stem(f"{out.stem}{ending}") for kind, ending in FILES.items()}
    own(files.values(), [bundle, *(file for name in clip for file in camera_files(name))], among=[data])
    opened = open_bundle(bundle)
    opened.with_memory()
    runtime = engine or opened.manifest.target.engine, opened.manifest.target.threads
    if LABELS in opened.manifest.outputs:
        tables = study_labels(opened, read_clips(opened, clip, data, frames), *runtime, times)
    else:
        drives = things.read_drives(things.refuse_what_is_of_labels(clip, data, times), opened, frames)
        tables = {"rows": study_things(opened, drives, *runtime)}
    for kind, file in files.items():
        if found := tables.get(kind):
            write_csv(file, found)
        else:
            file.unlink(missing_ok=True)  # an earlier run's would be taken for this one's


def study_labels(bundle: Bundle, clips: list[Clip], engine: str, threads: int, times: int) -> Tables:
    """Shows the tables, and gives their rows."""
    found_loops = []
    with open_ways(bundle, engine, threads) as graphs:
        judged, ways = ask(graphs, clips)
        if times > 1:
            remembered = ways[REMEMBERED]
            first = loops.score_loop(judged, zip(remembered.answers, remembered.tokens, strict=True))
            last = loops.loop_on(graphs.streams[REMEMBERED], clips, judged, times, say)
            found_loops = loops.compare_loops(first, last, times, len(judged.dense))
    found_cuts = []
    if len(clips) > 1:
        found_cuts = cuts.after_cuts(clips, judged, ways, cuts.ask_full(bundle, clips, engine, threads))
    flow = find_flow(threads)
    found = rows.compare(clips, judged, ways, flow)

    for shown in clips:
        click.echo(f"{len(shown.images)} frames of {shown.name}, {engine}")
    click.echo(render_table(found, rows.SHOWN))
    if not flow:
        say(LEFT_OUT)
    if found_cuts:
        click.echo("\nfirst after a cut, labels equal to the dense network's\n" + render_table(found_cuts, cuts.SHOWN))
    if found_loops:
        click.echo("\n" + render_table(found_loops, loops.SHOWN))
    return {"rows": found, "cuts": found_cuts, "loops": found_loops}


def study_things(bundle: Bundle, drives: things.Drives, engine: str, threads: int) -> Sequence[things.ThingsRow]:
    """Shows the table, and gives its rows."""
    with open_ways(bundle, engine, threads) as graphs:
        found = things.compare_things(graphs, bundle, drives, say)
    click.echo(f"{len(drives.places)} frames of {drives.name}, {engine}")
    click.echo(render_table(found, things.SHOWN))
    return found


def say(line: str) -> None:
    """Beside what is asked for."""
    click.echo(line, err=True)


if __name__ == "__main__":
    sys.exit(run_click(main, "remembered", TYPED))
