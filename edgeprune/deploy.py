"""A bundle and edgeprune itself onto a device, by the OpenSSH client: one environment there, that sees the system's packages.

Paths on the device are relative to the user's home unless they begin with a slash.
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.bundle import Bundle
from edgeprune.errors import InputError, RunError

Say = Callable[[str], None]
ROOT = Path(__file__).resolve().parent.parent  # of a clone
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "edgeprune", "calib", "targets")
CONNECT = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


class Remote:
    """A device that `ssh` reaches without a password."""

    def __init__(self, host: str, say: Say):
        for program in ("ssh", "scp"):
            if shutil.which(program) is None:
                raise InputError(
                    f"deploy needs OpenSSH's {program}, which is not here; sudo apt install openssh-client"
                )
        self.host, self._say = host, say

    def _call(self, what: str, words: Sequence[str]) -> str:
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode == 255:  # ssh's own failure; scp hands it on
            raise InputError(
                f"{self.host}: {_last(done.stderr)}; try `ssh {self.host}` by hand, and `ssh-copy-id {self.host}` once"
            )
        if done.returncode:
            raise RunError(f"{self.host}: {what}: {_last(done.stderr or done.stdout)}")
        return done.stdout

    def run(self, what: str, *words: str) -> str:
        """Runs a command there; says what it is for.

        Raises:
            InputError: the device can't be reached.
            RunError: the command failed.
        """
        self._say(f"{self.host}: {what}")
        return self._call(what, ["ssh", *CONNECT, self.host, shlex.join(words)])

    def copy(self, what: str, source: Path, folder: str) -> None:
        """Copies a file or folder into a folder there."""
        self._say(f"{self.host}: {what}")
        self._call(what, ["scp", "-q", "-r", *CONNECT, str(source), f"{self.host}:{folder}/"])


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"


def build_wheel(folder: Path) -> Path:
    """The wheel of this clone.

    Raises:
        InputError: edgeprune does not run from a clone, or pip can't build it.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise InputError("edgeprune is installed here, not a clone: give the wheel that it came from with --wheel")
    with tempfile.TemporaryDirectory(prefix="edgeprune-source-") as copied:
        # not where the clone lies: setuptools would take along what an earlier build left in its `build`
        for name in SOURCES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(copied) / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copied)
        command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), copied)
        done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise InputError(f"pip can't build a wheel of {ROOT}: {_last(done.stderr)}; give one with --wheel")
    return wheels[0]


def deploy(host: str, bundle: Bundle, wheel: Path, folder: str, compile_: bool, say: Say) -> str:
    """Copies wheel and bundle, makes the environment, verifies the bundle's hashes there.

    Args:
        host: as `ssh` takes it.
        folder: on the device; made where it is missing.
        compile_: also compile the bundle's graphs there, which takes minutes.

    Returns:
        the command that runs the bundle there.

    Raises:
        InputError: the device can't be reached, or `folder` is none of its own.
        RunError: a step failed there; an older copy of the bundle is still in its place.
    """
    if not folder.strip("/. "):
        raise InputError(f"--folder {folder!r} is no folder of its own on the device; name one, as edgeprune")
    remote, name, incoming = Remote(host, say), bundle.folder.resolve().name, f"{folder}/incoming"
    program, placed = f"{folder}/venv/bin", f"{folder}/{name}"
    remote.run("makes the folder", "mkdir", "-p", incoming)
    remote.copy(f"copies {wheel.name}", wheel, incoming)
    remote.copy(f"copies the bundle {name}", bundle.folder.resolve(), incoming)
    remote.run("makes an environment", "python3", "-m", "venv", "--system-site-packages", f"{folder}/venv")
    remote.run(
        "installs", f"{program}/python", "-m", "pip", "install", "--quiet", "--upgrade", f"{incoming}/{wheel.name}"
    )
    remote.run("verifies the bundle", f"{program}/edgeprune", "inspect", f"{incoming}/{name}")
    # an older copy goes only when the new one is whole
    remote.run("takes an older copy away", "rm", "-rf", placed)
    remote.run("puts the bundle in its place", "mv", f"{incoming}/{name}", placed)
    if compile_:
        say(remote.run("compiles, which takes minutes", f"{program}/edgeprune", "compile", placed).rstrip())
    return f"ssh {host} {shlex.join((f'{program}/edgeprune', 'run', '--bundle', placed, '--camera', '0'))}"
