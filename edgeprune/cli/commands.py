"""The verbs."""

import click

from edgeprune import __version__
from edgeprune.cli import bench_torch, build, compare, demo, device, growth, lint, measure, run, tokens, train
from edgeprune.device import check_environment
from edgeprune.exit_code import run_click

COMMANDS = [
    demo.demo,
    train.train,
    train.calibrate,
    train.probe,
    lint.lint,
    build.build,
    build.inspect,
    build.targets,
    build.peers,
    device.compile_,
    device.doctor,
    device.deploy_,
    run.run,
    measure.eval_,
    measure.bench,
    bench_torch.bench_torch,
    growth.growth,
    compare.compare,
    tokens.show,
]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def edgeprune() -> None:
    """Pruned, INT8 vision transformers for segmentation on camera streams."""
    check_environment()


for command in COMMANDS:
    edgeprune.add_command(command)


def run_command() -> int:
    """Runs the verb that was typed."""
    return run_click(edgeprune, "edgeprune")
