"""`demo`: the main job from end to end on what every clone has: the zoo's model, this CPU, the synthetic street."""

from pathlib import Path

import click

from edgeprune.base.ending import asked
from edgeprune.base.errors import EdgepruneError
from edgeprune.base.files import make_folder, sha256, write_atomic
from edgeprune.base.table import render_table, write_json
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.target import load_target
from edgeprune.cli.defaults import MODEL, TARGET, default_checkpoint
from edgeprune.cli.measure import BENCH_COLUMNS, flat_rows, measure, show_bench, write_bench
from edgeprune.cli.owning import own
from edgeprune.cli.run import run_camera, show_summary
from edgeprune.cli.show import as_json, say, show_json

FRAMES = 150
ROUNDS = 3
SCORED = 16


def demo_bundle(folder: Path) -> Bundle:
    """The bundle in `folder` if it was built from this checkpoint and target, else a new one."""
    checkpoint, target = default_checkpoint(), load_target(TARGET)
    try:
        bundle = open_bundle(folder)
        same = bundle.manifest.provenance.get("checkpoint_sha256") == sha256(checkpoint)
        if same and bundle.manifest.target == target:
            return bundle
        say(f"{folder} is of another model or target; building it again")
    except EdgepruneError as error:
        say(str(error) if folder.exists() else f"building {MODEL} for {TARGET} (a few minutes, once)")
    from edgeprune.export.build import build
    from edgeprune.export.sources import find_sources

    build(target, find_sources(checkpoint, None, None), target.precisions, folder, say)
    return open_bundle(folder)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True)
@as_json
def demo(out: Path, json_: bool) -> None:
    """Build the shipped model, run it on the synthetic street, measure it, and write a report."""
    make_folder(out, "the demo's files")
    own([out])
    bundle = demo_bundle(out / "bundle")
    say(f"rendering {FRAMES} frames of the synthetic street ahead, then running them")
    camera = f"synthetic://street?seed=1&frames={FRAMES}&ahead={FRAMES}"
    outcome = run_camera(bundle, camera, out=out / "overlay.mp4", record=out / "frames.csv")
    if asked():  # the run has taken it for its end
        raise KeyboardInterrupt
    if outcome.failure:
        raise outcome.failure
    result = measure(bundle, ROUNDS, 10, "street", scored=SCORED, only="int8")
    paths = write_bench(result, out)
    write_json(out / "run.json", outcome.summary)
    report = [
        f"# {bundle.manifest.name} on this machine",
        "",
        "The synthetic street: rendered frames with exact labels. What the model does on real frames stands in its card.",
        "INT8 against dense FP32; `edgeprune bench` times every precision.",
        "",
        "```",
        render_table(flat_rows(result), BENCH_COLUMNS),
        "```",
        "",
        f"{result['rounds']} rounds of {result['source']}, {result['threads']} threads; {result['energy_status']}.",
        "",
        "![mIoU against latency](bench.png)",
        "",
        "The run: `run.json` (summary), `frames.csv` (a row per frame), `overlay.mp4`.",
        "",
    ]
    with write_atomic(out / "report.md", "the report") as partial:
        partial.write_text("\n".join(report))
    if json_:
        show_json({"run": outcome.summary, "bench": result})
        return
    show_summary(outcome.summary)
    show_bench(result)
    for path in (*paths, out / "report.md"):
        click.echo(f"wrote    {path}")
