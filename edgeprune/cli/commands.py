"""The verbs, in the sections of the help."""

import click

from edgeprune import __version__
from edgeprune.base.device import check_environment
from edgeprune.base.exit_code import run_click
from edgeprune.cli import (
    ablate,
    baselines,
    build,
    compare,
    data,
    demo,
    device,
    inspect,
    lint,
    measure,
    roofline,
    run,
    say_stopped,
    scaling,
    targets,
    tokens,
    train,
)
from edgeprune.cli.verb import Verbs

SECTIONS: dict[str, list[click.Command]] = {
    "Use": [demo.demo, build.build, run.run, measure.eval_, measure.bench, tokens.show, inspect.inspect],
    "Train": [train.train, train.calibrate, data.data],
    "Device": [device.compile_, device.trtexec, device.deploy_, device.doctor, targets.targets, lint.lint],
    "Lab": [compare.compare, ablate.ablate, scaling.scaling, baselines.baselines, roofline.roofline],
}  # fmt: skip
RENAMED = {
    "peers": "edgeprune baselines",
    "growth": "edgeprune scaling",
    "probe": "edgeprune ablate selection",
    "bench-torch": "python -m edgeprune.lab.in_torch",
}

edgeprune = Verbs(
    "edgeprune",
    SECTIONS,
    RENAMED,
    begin=check_environment,
    help="Pruned, INT8 vision transformers for segmentation on camera streams.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
click.version_option(__version__)(edgeprune)


def run_command() -> int:
    """Runs the verb that was typed."""
    return run_click(edgeprune, "edgeprune", stopped=say_stopped)
