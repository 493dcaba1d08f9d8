"""The verbs, in the sections of the help."""

from collections.abc import Sequence

import click

from edgeprune import __version__
from edgeprune.base.device import check_environment
from edgeprune.base.exit_code import run_click
from edgeprune.cli import say_stopped
from edgeprune.cli.verb import Verbs

# a verb's module is imported when the verb is typed: a device that runs does not wait for what trains and studies
SECTIONS: dict[str, dict[str, str]] = {
    "Use": {
        "demo": "demo:demo",
        "build": "build:build",
        "run": "run:run",
        "service": "service:service",
        "eval": "measure:eval_",
        "bench": "measure:bench",
        "energy": "energy:energy",
        "show": "tokens:show",
        "inspect": "inspect:inspect",
    },
    "Train": {
        "train": "train:train",
        "report": "report:report",
        "calibrate": "calibrate:calibrate",
        "data": "data:data",
    },
    "Device": {
        "compile": "device:compile_",
        "trtexec": "device:trtexec",
        "deploy": "device:deploy_",
        "doctor": "device:doctor",
        "targets": "targets:targets",
        "lint": "lint:lint",
    },
    "Lab": {
        "compare": "compare:compare",
        "ablate": "ablate:ablate",
        "scaling": "scaling:scaling",
        "baselines": "baselines:baselines",
        "roofline": "roofline:roofline",
    },
}
RENAMED = {
    "peers": "edgeprune baselines",
    "growth": "edgeprune scaling",
    "probe": "edgeprune ablate selection",
    "bench-torch": "python -m edgeprune.lab.in_torch",
}

edgeprune = Verbs(
    "edgeprune",
    {title: {name: f"edgeprune.cli.{place}" for name, place in verbs.items()} for title, verbs in SECTIONS.items()},
    RENAMED,
    begin=check_environment,
    help="Pruned, INT8 vision transformers for segmentation on camera streams.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
click.version_option(__version__)(edgeprune)


def import_typed(words: Sequence[str]) -> None:
    """Imports the verb that was typed; where none was, all, as the help shows them."""
    verb = next((word for word in words if not word.startswith("-")), None)
    for name in edgeprune.names if verb is None else [verb]:
        edgeprune.get_command(None, name)


def run_command() -> int:
    """Runs the verb that was typed."""
    return run_click(edgeprune, "edgeprune", stopped=say_stopped)
