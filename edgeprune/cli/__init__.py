"""The command line: one verb, one call; the only place that prints.

Exit codes: 0 well; 2 bad input (one line says what was found, what was expected, what to type next); 3 a failure while
running (what was recorded until then is readable).
"""

import io
import sys

import click

from edgeprune import __version__
from edgeprune.camera.masking import masked
from edgeprune.cli import bench_torch, build, compare, demo, device, growth, lint, measure, run, tokens, train
from edgeprune.ending import end_on_signals
from edgeprune.errors import EdgepruneError

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


for command in COMMANDS:
    edgeprune.add_command(command)


def main() -> None:
    """Entry point: errors that a person can act on become one line and an exit code."""
    try:
        end_on_signals()
        code = edgeprune.main(standalone_mode=False)
    except click.ClickException as error:
        message = io.StringIO()
        error.show(file=message)
        click.echo(masked(message.getvalue()), err=True, nl=False)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = 130
    except EdgepruneError as error:
        click.echo(f"edgeprune: {masked(str(error))}", err=True)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
