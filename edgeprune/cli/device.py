"""`compile`: a bundle's graphs into this device's own engines. `trtexec`, `doctor`, `deploy`."""

import logging
from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.base.ending import hard_stop
from edgeprune.base.errors import InputError
from edgeprune.bundle import open_bundle
from edgeprune.bundle.deploy import deploy
from edgeprune.cli.defaults import DEVICE, open_default
from edgeprune.cli.options import argument, bundle_option, json_option, option
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.runtime.compiling import choose_on_device, graphs_of, refuse_unusable, single_graphs
from edgeprune.runtime.doctor import examine
from edgeprune.runtime.engines.plan_builder import trtexec_command
from edgeprune.runtime.preparing import require_engine, say_dropped, say_if_slow

logger = logging.getLogger(__name__)

COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "p50_ms": ("p50 ms", ".2f"),
    "agreement": ("equal labels", ".3%"),
    "typing": ("typing", ""),
    "chosen": ("chosen", ""),
}


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    bundle: Path = argument()
    again: bool = option(
        "--again", default=False, help="Also what is compiled already, timed anew: after a change of power mode."
    )
    json: bool = json_option()


@verb(
    "compile",
    CompileOptions,
    [
        "edgeprune compile out/bundles/street-tiny-jetson-orin",
        "edgeprune compile out/bundles/street-tiny-jetson-orin --again",
    ],
    moved={"--print-trtexec": "edgeprune trtexec BUNDLE"},
)
def compile_(options: CompileOptions) -> None:
    """Compile a BUNDLE's graphs for this device.

    Each bucket's precision is chosen by measurement. `run` does it when needed; minutes, once per device and TensorRT version.
    """
    opened = open_bundle(options.bundle)
    target = opened.manifest.target
    engine = require_engine(opened, target.engine)
    say_if_slow(opened)
    if not target.compiled_on_device:
        logger.info(f"{target.engine} reads the bundle's graphs as they are; there is nothing to compile")
    with hard_stop(130):  # a build is minutes of native code, and what was compiled until then is kept
        failed = engine.prepare([*graphs_of(opened), *single_graphs(opened)], options.again)
        refuse_unusable(opened, engine, failed)
        choice = choose_on_device(opened, engine) if target.compiled_on_device else None
    rows, dropped = (choice.rows("agreement", "typing"), dict(choice.dropped)) if choice else ([], {})
    say_dropped(dropped)
    if options.json:
        show_json(
            {
                "bundle": str(options.bundle),
                "engine": target.engine,
                "rows": rows,
                "dropped": dropped,
                "failed": {graph.name: str(error) for graph, error in failed.items()},
            }
        )
        return
    if rows:
        show_table(rows, COLUMNS)
    click.echo(f"next: edgeprune run --bundle {options.bundle} --camera 0")


@dataclass(frozen=True, kw_only=True)
class TrtexecOptions:
    bundle: Path = argument()


@verb(
    "trtexec",
    TrtexecOptions,
    [
        "edgeprune trtexec out/bundles/street-tiny-jetson-orin",
        "edgeprune trtexec out/bundles/street-tiny-jetson-orin > build.sh",
    ],
)
def trtexec(options: TrtexecOptions) -> None:
    """Print NVIDIA's commands that build the same engines.

    For a bug report: what TensorRT makes of a BUNDLE's graphs without a line of ours between.
    """
    opened = open_bundle(options.bundle)
    target = opened.manifest.target
    if target.engine != "tensorrt":
        raise InputError(
            f"{options.bundle} is for {target.name} ({target.engine}), whose graphs TensorRT does not take; build with "
            "--target jetson-orin"
        )
    for graph in graphs_of(opened):
        click.echo(trtexec_command(graph))


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    json: bool = json_option()


@verb("doctor", DoctorOptions, ["edgeprune doctor", "edgeprune doctor --json"])
def doctor(options: DoctorOptions) -> None:
    """Say what is missing on this machine, and what to type."""
    findings = examine()
    if options.json:
        show_json({"findings": findings})
        return
    signs = {True: "ok", False: "MISSING", None: "-"}
    for finding in findings:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        click.echo(f"{signs[finding.ok]:8}{finding.what:16}{finding.found}{remedy}")


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    host: str = argument()
    bundle: Path | None = bundle_option(DEVICE)
    folder: str = option("--folder", default="edgeprune", help="On the device, from the user's home.")
    wheel: Path | None = option(
        "--wheel", click.Path(path_type=Path, exists=True), help="Default: built from this clone."
    )
    compiles: bool = option("--compile", default=False, help="Also compile the bundle there; minutes.")


@verb(
    "deploy",
    DeployOptions,
    ["edgeprune deploy me@orin", "edgeprune deploy me@orin --bundle out/bundles/street-tiny-jetson-orin --compile"],
)
def deploy_(options: DeployOptions) -> None:
    """Copy edgeprune and a bundle to HOST (user@device).

    Over ssh; both are set up there.
    """
    bundle = open_default(options.bundle, DEVICE)
    click.echo(f"next: {deploy(options.host, bundle, options.wheel, options.folder, options.compiles)}")
