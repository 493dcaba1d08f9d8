"""A bundle and edgeprune itself onto a device, by the OpenSSH client: one environment there, that sees the system's packages.

Paths on the device are relative to the user's home unless they begin with a slash. What the user names reaches the device's
shell quoted, and `scp` never: what it takes as a path is a shell's word in the old protocol and a plain name in the new one
(OpenSSH 9.0), so files are copied into a folder whose name needs no quotes and moved from there.
"""

import logging
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeprune.base.errors import EdgepruneError, InputError, RunError
from edgeprune.base.paths import real_path
from edgeprune.bundle import MANIFEST, Bundle

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]  # of a clone
WHEEL_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "edgeprune", "calib", "targets")
NOT_IN_WHEEL = shutil.ignore_patterns("__pycache__", "*.safetensors")
CONNECT = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
# As ssh and scp take it from a command line: a name of ~/.ssh/config, a host or an address, with a user or without.
IPV6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?"
HOST = re.compile(rf"(?P<user>[A-Za-z0-9_][\w.+-]*@)?(?:[A-Za-z0-9_][\w.-]*|\[?(?P<ipv6>{IPV6})\]?)", re.ASCII)
EXTRA = "video"  # without it neither a V4L2 camera nor a network one opens, and nothing is recorded
VENV = "venv"  # beside the bundles, in the folder
STAGING = ".edgeprune-XXXXXX"  # in the home, for `mktemp`
NOT_ONE = "no bundle"
LOOK = f'[ ! -e "$1" ] || grep -qs schema_version "$1/{MANIFEST}" || echo {NOT_ONE}'  # other things have a manifest too
# PLACE name folder copy: a copy, which may lie on another disk, in its place; until it is, the older one is, whatever fails
PLACE = """set -e
place="$2/$1" new="$2/.edgeprune-$1.new" old="$2/.edgeprune-$1.old"
trap 'rm -rf "$new"' EXIT
rm -rf "$new"
mv "$3" "$new"
if [ -e "$place" ] || [ -L "$place" ]; then rm -rf "$old"; mv "$place" "$old"; fi
mv "$new" "$place" || { [ ! -e "$old" ] || mv "$old" "$place"; exit 1; }
rm -rf "$old"
"""


class Remote:
    """A device that `ssh` reaches without a password.

    Raises:
        InputError: `host` is none, or there is no OpenSSH here.
    """

    def __init__(self, host: str):
        match = HOST.fullmatch(host)
        if match is None:
            raise InputError(
                f"HOST {host!r} is no device; expected user@device of letters, digits, dots, - and _, as ssh takes it (a port "
                "or a key go into ~/.ssh/config)"
            )
        for program in ("ssh", "scp"):
            if shutil.which(program) is None:
                raise InputError(
                    f"deploy needs OpenSSH's {program}, which is not here; sudo apt install openssh-client"
                )
        user, ipv6 = match["user"] or "", match["ipv6"]
        # an address with colons stands in brackets for scp, and without for ssh
        self.host, self._for_scp = (user + ipv6, f"{user}[{ipv6}]") if ipv6 else (host, host)

    def _call(self, what: str, words: Sequence[str], live: bool = False) -> str:
        """What the words print. `live`: each line of it is said as it comes, what goes to standard error too."""
        if not live:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace")
            printed, code, failure = done.stdout, done.returncode, f"{done.stdout}\n{done.stderr}"
        else:
            lines = []
            with subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
            ) as running:
                for line in running.stdout or ():
                    logger.info(line.rstrip())
                    lines.append(line)
            printed = failure = "".join(lines)
            code = running.returncode
        if code == 255:  # ssh's own failure; scp hands it on
            raise InputError(
                f"{self.host}: {_reason(failure)}; try `ssh {self.host}` by hand, and `ssh-copy-id {self.host}` once"
            )
        if code:
            raise RemoteError(f"{self.host}: {what}: {_reason(failure)}", failure)
        return printed

    def run(self, what: str, *words: str, live: bool = False) -> str:
        """Runs a command there; says what it is for. `live`: says what it prints, as it comes.

        Raises:
            InputError: the device can't be reached.
            RemoteError: the command failed.
        """
        logger.info(f"{self.host}: {what}")
        return self._call(what, ["ssh", *CONNECT, self.host, shlex.join(words)], live)

    def copy(self, what: str, source: Path, folder: str) -> None:
        """Copies a file or folder into a folder there, whose name needs no quotes in any shell."""
        logger.info(f"{self.host}: {what}")
        self._call(what, ["scp", "-q", "-r", *CONNECT, str(real_path(source)), f"{self._for_scp}:{folder}/"])


class RemoteError(RunError):
    """A command failed there. `printed`: all that it said."""

    def __init__(self, message: str, printed: str):
        super().__init__(message)
        self.printed = printed


def _reason(text: str) -> str:
    """The last line that calls itself an error, since pip has notices behind it; the last line of all where none does."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(edgeprune|error|fatal):", line, re.IGNORECASE)]
    return [*lines, *errors][-1][:300] if lines else "no reason given"


def build_wheel(folder: Path) -> Path:
    """The wheel of this clone for a device: without the zoo's checkpoints, of which none is built there.

    Raises:
        InputError: edgeprune does not run from a clone, or pip can't build it.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise InputError("edgeprune is installed here, not a clone: give the wheel that it came from with --wheel")
    with tempfile.TemporaryDirectory(prefix="edgeprune-source-") as copied:
        # not where the clone lies: setuptools would take along what an earlier build left in its `build`
        for name in WHEEL_SOURCES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(copied) / name, ignore=NOT_IN_WHEEL)
            else:
                shutil.copy(source, copied)
        command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), copied)
        done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise InputError(f"pip can't build a wheel of {ROOT}: {_reason(done.stderr)}; give one with --wheel")
    return wheels[0]


def _check_folder(folder: str) -> None:
    """Refuses what is no folder of its own on the device, or not the one that it seems to be."""
    parts = folder.split("/")
    if not folder.strip("/. "):
        wrong = "is no folder of its own on the device"
    elif ".." in parts:
        wrong = "leads out of itself (`..`)"
    elif folder.startswith("~"):
        wrong = "begins with ~, and paths are relative to the home already"
    elif folder.startswith("-"):
        wrong = "begins with -, as an option does"
    elif not folder.isprintable():
        wrong = "holds characters that can't be printed"
    else:
        return
    raise InputError(f"--folder {folder!r} {wrong}; name one, as edgeprune or /opt/edgeprune")


def _check_bundle_name(name: str) -> None:
    """Refuses a bundle whose folder would lie where something else does."""
    if name == VENV:
        raise InputError(
            f"the bundle's folder is called {name!r}, and so is the environment beside it; rename the folder"
        )
    if not name or not name.isprintable():
        raise InputError(f"the bundle's folder is called {name!r}; rename it to letters and digits")


def _make_environment(remote: Remote, folder: str) -> None:
    """Raises InputError with what to type where the device's Python has no `venv`."""
    try:
        remote.run("makes an environment", "python3", "-m", "venv", "--system-site-packages", f"{folder}/{VENV}")
    except RemoteError as error:
        # Debian and Ubuntu split it off: "... not created successfully because ensurepip is not available ..."
        if re.search(r"ensurepip|No module named '?venv", error.printed):
            raise InputError(
                f"{remote.host}: its Python can't make an environment, python3-venv is not there; type on it: "
                "sudo apt install python3-venv"
            ) from error
        raise


@contextmanager
def _staging(remote: Remote) -> Iterator[str]:
    """A folder in the device's home, whose name needs no quotes."""
    made = remote.run("makes room for copies", "mktemp", "-d", STAGING).split()
    folder = made[-1] if made else ""
    if not re.fullmatch(r"\.edgeprune-\w+", folder, re.ASCII):
        raise RunError(f"{remote.host}: mktemp answered {folder!r}, expected a name as {STAGING}")
    try:
        yield folder
    finally:
        with suppress(EdgepruneError):  # what went wrong before is what matters
            remote.run("tidies up", "rm", "-rf", folder)


def deploy(host: str, bundle: Bundle, wheel: Path | None, folder: str, compile_: bool) -> str:
    """Copies wheel and bundle, makes the environment, verifies the bundle's hashes there.

    Args:
        host: as `ssh` takes it.
        wheel: None builds that of this clone.
        folder: on the device; made where it is missing.
        compile_: also compile the bundle's graphs there, which takes minutes.

    Returns:
        the command that runs the bundle there.

    Raises:
        InputError: the device can't be reached or lacks python3-venv, or `folder` is none of its own.
        RunError: a step failed there; an older copy of the bundle is still in its place.
    """
    name = real_path(bundle.folder).name
    _check_folder(folder)
    _check_bundle_name(name)
    remote = Remote(host)
    program, placed = f"{folder}/{VENV}/bin", f"{folder}/{name}"
    if NOT_ONE in remote.run("looks what lies there", "sh", "-c", LOOK, "sh", placed).splitlines():
        raise InputError(f"{host}: {placed} is there and is no bundle; name another --folder, or rename the bundle's")
    remote.run("makes the folder", "mkdir", "-p", folder)
    _make_environment(remote, folder)
    with tempfile.TemporaryDirectory(prefix="edgeprune-wheel-") as here, _staging(remote) as there:
        wheel = wheel or build_wheel(Path(here))
        remote.copy(f"copies {wheel.name}", wheel, there)
        remote.copy(f"copies the bundle {name}", bundle.folder, there)
        pip, file = (f"{program}/python", "-m", "pip", "install", "--quiet"), f"{there}/{wheel.name}"
        remote.run("installs", *pip, "--upgrade", f"{file}[{EXTRA}]")
        # pip passes a file by whose version is there already, and takes what that one needs alone
        remote.run("installs this build", *pip, "--force-reinstall", "--no-deps", file)
        remote.run("verifies the bundle", f"{program}/edgeprune", "inspect", f"{there}/{name}")
        remote.run("puts the bundle in its place", "sh", "-c", PLACE, "sh", name, folder, f"{there}/{name}")
    if compile_:
        remote.run("compiles, which takes minutes", f"{program}/edgeprune", "compile", placed, live=True)
    command = shlex.join((f"{program}/edgeprune", "run", "--bundle", placed, "--camera", "0"))
    return shlex.join(("ssh", remote.host, command))  # two shells read it: the one here, and the one there
