"""`service`: the systemd unit of a run, printed or installed."""

import grp
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.inputs import read_text
from edgeprune.cli.config import naming_config, read_config, warn_of_others
from edgeprune.cli.options import option
from edgeprune.cli.run import OPTIONS, PLACES, check_options, outputs_named
from edgeprune.cli.verb import verb
from edgeprune.runtime.sinks import SINKS, Output, outputs_of
from edgeprune.runtime.unit import Service

logger = logging.getLogger(__name__)

UNITS = Path("/etc/systemd/system")
GROUPS = ("video",)  # of camera devices; a unit that names a group that there is not does not start


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    config: Path = option("--config", default=MISSING, metavar="FILE", help="The run, as `run --config` takes it.")
    user: str | None = option("--user", help="Who runs it, not root; default: a user that systemd makes up.")
    install: bool = option("--install", default=False, help=f"Write it to {UNITS}; needs root.")


@verb(
    "service",
    ServiceOptions,
    ["edgeprune service --config run.yaml", "edgeprune service --config run.yaml --user me --install"],
)
def service(options: ServiceOptions) -> None:
    """Print or install the systemd unit of a run.

    It starts with the machine, is watched, restarted where it fails, and has no rights but what it needs.
    """
    config = Path(os.path.abspath(options.config))
    given = read_config(options.config, OPTIONS, PLACES)
    with naming_config(options.config, OPTIONS, given.keys()):
        made = make_service(config, given, options.user)
        text = made.unit()
    warn_of_others(config, made.cameras)
    if key := made.opened_by():
        logger.warning(
            f"{key}: lies in the folder of {config.name}, all of which the service may write to, but for that file itself; "
            f"give its outputs a folder of their own, such as {key}: out/..., where mkdir has made out"
        )
    if not options.install:
        click.echo(text, nl=False)
        return
    path = UNITS / f"{made.name}.service"
    install(path, text, made)
    click.echo(f"wrote {path}")
    click.echo(f"next: sudo systemctl daemon-reload && sudo systemctl enable --now {made.name}")


def make_service(config: Path, given: Mapping[str, Any], user: str | None) -> Service:
    """What a unit of these options is made of.

    Raises:
        InputError: what `run` refuses before it opens anything, or no bundle.
    """
    values = OPTIONS(**given)
    outputs = _check_as_run(values, given)
    if values.bundle is None:
        raise InputError(
            f"{config} names no bundle, and a service has no folder of its own to find one in; add bundle:"
        )
    cameras = values.cameras
    writes: dict[Path, str] = {}
    endless: set[Path] = set()
    for each in outputs.values():
        for key, output in zip(each, outputs_of(each), strict=True):
            path = Path(os.path.abspath(_place(output) if cameras else output.path))
            writes.setdefault(path, key)
            if output.endless:
                endless.add(path)
    groups = []
    for name in GROUPS:
        try:
            groups.append(grp.getgrnam(name).gr_name)
        except KeyError:
            logger.info(f"this machine has no group {name}; the user needs the right to open the camera otherwise")
    python = Path(os.path.abspath(sys.executable))
    named = list(cameras.values()) if cameras else [values.camera]
    return Service(config, python, values.bundle, named, writes, user, groups, endless, values.meter)


def _check_as_run(values: Any, given: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Refuses what a run of the configuration would refuse at each start, without listening or writing anything, or running
    what `call` names.

    Returns:
        of each camera what is written, by the keys of SINKS.

    Raises:
        InputError: as `run`; or an output that only a first start can write.
    """
    check_options(values)
    for key in ("camera", "pipeline"):
        if values.cameras and key in given:
            raise InputError(f"the configuration names several cameras, which {key} is not for; leave {key} out")
    for key, kind in SINKS.items():
        if kind.look is not None and (name := getattr(values, key)) is not None:
            kind.look(name)
    outputs, written = outputs_named(replace(values, **{key: None for key in SINKS if not SINKS[key].writes}))
    if any(output.folder and not output.endless for output in written):
        raise InputError(
            f"labels: {values.labels} is to be new or empty at each start, and a service starts again; give it no end: "
            f"labels: {values.labels}/"
        )
    return outputs


def _place(output: Output) -> Path:
    """What of a camera's own output is written: a folder of each lies in that of all, which has to be there where it has no
    end, and is made by the run else."""
    around = output.path.parent
    return around if output.folder and (output.endless or not around.is_dir()) else output.path


def install(path: Path, text: str, made: Service) -> None:
    """Writes the unit, in one step.

    Raises:
        InputError: it needs root, or a unit of that name is somebody else's.
    """
    if path.exists() and read_text(path, "unit").partition("\n")[0] != f"# {made.mark}":
        raise InputError(f"{path} is there, and not of {made.config}; delete it, or call the configuration otherwise")
    if not os.access(path.parent, os.W_OK):
        user = f" --user {made.user}" if made.user else ""
        raise InputError(
            f"{path.parent} is root's; type: sudo {made.python} -m edgeprune service --config {made.config}{user} --install"
        )
    with write_atomic(path, "the unit") as partial:
        partial.write_text(text)
        partial.chmod(0o644)
