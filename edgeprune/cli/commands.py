"""The verbs."""

import click

from edgeprune import __version__
from edgeprune.base.device import check_environment
from edgeprune.base.exit_code import run_click
from edgeprune.cli import (
    bench_torch,
    build,
    compare,
    demo,
    device,
    growth,
    lint,
    measure,
    run,
    say_stopped,
    tokens,
    train,
)

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


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__)
@click.pass_context
def edgeprune(context: click.Context) -> None:
    """Pruned, INT8 vision transformers for segmentation on camera streams."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return
    check_environment()


for command in COMMANDS:
    edgeprune.add_command(command)


def run_command() -> int:
    """Runs the verb that was typed."""
    return run_click(edgeprune, "edgeprune", stopped=say_stopped)
