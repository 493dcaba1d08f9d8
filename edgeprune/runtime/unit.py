"""The systemd unit of a run. What each setting means, and where systemd says so, stands in docs/service.md."""

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.base.access import Somebody
from edgeprune.base.device import CACHE_VARIABLE
from edgeprune.base.errors import InputError
from edgeprune.base.paths import real_path
from edgeprune.runtime.cameras.v4l2 import is_device

STATE, CACHES = Path("/var/lib"), Path("/var/cache")  # StateDirectory= and CacheDirectory= of a system's services
TMP = ("/tmp", "/var/tmp")  # PrivateTmp= puts empty ones in their place
WATCHDOG_S = 60  # an attempt to reach a camera that is away takes up to 20 s (cameras/reconnect.py)
START_S = 3600  # a device may compile graphs before the first frame
NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")

UNIT = """\
# {mark}
[Unit]
Description=edgeprune, {config}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=30

[Service]
Type=notify
ExecStart={command}
WorkingDirectory={folder}
Environment={cache_variable}={cache}
{identity}
{groups}Restart=on-failure
RestartSec=10
WatchdogSec={watchdog_s}
TimeoutStartSec={start_s}
TimeoutStopSec=10
KillSignal=SIGTERM
KillMode=mixed
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp={private_tmp}
StateDirectory={name}
CacheDirectory={name}
{writes}
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Service:
    """What a unit is made of.

    Attributes:
        config: the file of the run's options.
        python: the interpreter that has edgeprune.
        bundle: its folder.
        cameras: as the file names them, without the names of several.
        writes: the outputs, each with its key in the file. A run makes files in the folder around each: its lock, at least.
        endless: those of them that are folders to which all is written, the lock too.
        meter: as the file names it; None: it names none.
        user: who runs it; None: a user that systemd makes up.
        groups: that the machine has, of devices.
    """

    config: Path
    python: Path
    bundle: Path
    cameras: Sequence[str]
    writes: Mapping[Path, str] = field(default_factory=dict)
    user: str | None = None
    groups: Sequence[str] = ()
    endless: Set[Path] = frozenset()
    meter: str | None = None

    @property
    def name(self) -> str:
        """Of the unit, without its suffix.

        Raises:
            InputError: the file's name makes none.
        """
        stem = self.config.stem
        if not NAME.fullmatch(stem):
            raise InputError(f"{self.config}: a service is called after its file; name it with letters, as front.yaml")
        return stem if stem == "edgeprune" else f"edgeprune-{stem}"

    @property
    def mark(self) -> str:
        """The first line of the unit: whose it is."""
        return f"written by edgeprune service --config {self.config}"

    def unit(self) -> str:
        """The text of the unit.

        Raises:
            InputError: who runs it is root or nobody here, can't read what it needs, or may not write an output.
        """
        somebody = self._somebody()
        if self.user is None:
            self._refuse_what_a_dynamic_user_lacks()
        for path in (self.config, self.python, *self.writes):
            if not str(path).isprintable():
                raise InputError(f"{str(path)!r} has characters that no unit can hold; rename it")
        written = {self._written(path) for path in self.writes if not self._is_state(path)}
        for folder in sorted(written):
            if not folder.is_dir():
                raise InputError(f"{folder} is not there, where the run is to write; make it first: mkdir -p {folder}")
        self._refuse_what_may_not_be_opened(somebody)
        outermost = sorted(str(folder) for folder in written if written.isdisjoint(folder.parents))
        writes = f"ReadWritePaths={' '.join(map(_word, outermost))}\n" if outermost else ""
        if self.opened_by():
            writes += f"ReadOnlyPaths={_word(str(self.config))}\n"
        return UNIT.format(
            mark=self.mark,
            config=_specifiers(str(self.config)),
            command=f"{_word(str(self.python))} -m edgeprune run --config {_argument(str(self.config))}",
            folder=_specifiers(str(self.config.parent)),
            cache_variable=CACHE_VARIABLE,
            cache=CACHES / self.name,
            identity="DynamicUser=yes" if self.user is None else f"User={self.user}",
            groups=f"SupplementaryGroups={' '.join(self.groups)}\n" if self.groups else "",
            watchdog_s=WATCHDOG_S,
            start_s=START_S,
            private_tmp="no" if self._needs_tmp else "yes",
            name=self.name,
            writes=writes,
        )

    @property
    def _needs_tmp(self) -> str | None:
        """What of it lies in the machine's own /tmp: NVIDIA's camera daemon is reached by /tmp/argus_socket."""
        if csi := next((camera for camera in self.cameras if camera.lower().startswith("csi:")), None):
            return f"{csi} is reached by /tmp/argus_socket, which"
        kind, _, given = (self.meter or "").partition(":")
        of_meter = given.split() if kind == "command" else []  # a program, and what it is told to read
        used = [*self._reads(), *((f"{key}:", path) for path, key in self.writes.items())]
        used += [("meter:", Path(word)) for word in of_meter]
        return next((f"{what} {path}" for what, path in used if any(Path(tmp) in path.parents for tmp in TMP)), None)

    def _written(self, output: Path) -> Path:
        """The folder in which all is made that is made for an output."""
        return output if output in self.endless else output.parent

    def _is_state(self, output: Path) -> bool:
        folder = self._written(output)
        return STATE / self.name in (folder, *folder.parents)

    def opened_by(self) -> str | None:
        """The key of an output beside or above the configuration, in whose folder the service could write that, too."""
        here = real_path(self.config.parent)
        above = (here, *here.parents)
        return next((key for path, key in self.writes.items() if real_path(self._written(path)) in above), None)

    def _somebody(self) -> Somebody:
        if self.user is None:
            return Somebody("a dynamic user")
        try:
            found = pwd.getpwnam(self.user)
        except KeyError:
            raise InputError(
                f"--user {self.user} is nobody on this machine; type an existing user, or make one: "
                f"sudo useradd --system {self.user}"
            ) from None
        if found.pw_uid == 0:
            raise InputError(f"--user {self.user} is root, whom a camera service does not need; name another user")
        return Somebody(self.user, found.pw_uid, frozenset(os.getgrouplist(self.user, found.pw_gid)))

    def _refuse_what_a_dynamic_user_lacks(self) -> None:
        other = "give --user NAME, one who may"
        if self._needs_tmp:
            raise InputError(f"{self._needs_tmp} a dynamic user does not see, whose /tmp is its own; {other}")
        for path, key in self.writes.items():
            if not self._is_state(path):
                raise InputError(
                    f"{key}: {path} can't be written by a dynamic user, who owns {STATE / self.name} alone; {other}, "
                    "or put it there"
                )

    def _refuse_what_may_not_be_opened(self, somebody: Somebody) -> None:
        other = "give --user NAME, one who may, or give this one the right"
        for what, path in self._reads():
            if closed := somebody.stopped_at(path):
                at = "" if closed == path else f", who may not {'enter' if closed.is_dir() else 'read'} {closed}"
                raise InputError(f"{what} {path} can't be read by {somebody.name}{at}; {other}")
        for path, key in self.writes.items():
            folders = [self._written(path), *([path] if path.is_dir() else [])]
            for folder in [] if self._is_state(path) else dict.fromkeys(folders):
                if closed := somebody.stopped_at(folder, write=True):
                    may_not = "write to" if closed == folder else "enter"
                    raise InputError(
                        f"{key}: {path} can't be written by {somebody.name}, who may not {may_not} {closed}; {other}"
                    )

    def _reads(self) -> Iterator[tuple[str, Path]]:
        """What a run reads, and what of the configuration needs it."""
        yield "the configuration", self.config
        yield "the Python", self.python
        yield "edgeprune's own", Path(__file__)
        yield "bundle:", self.bundle
        for path in sorted(self.bundle.rglob("*")):
            yield "bundle:", path
        for camera in self.cameras:
            if os.path.isabs(camera) and not is_device(camera):  # a file, a folder, a pipe that may be made later
                yield "camera:", Path(camera)
        kind, _, given = (self.meter or "").partition(":")
        if kind == "file":
            yield "meter:", Path(given)


def _specifiers(text: str) -> str:
    """`%` begins a specifier (systemd.unit(5), "Specifiers")."""
    return text.replace("%", "%%")


def _argument(text: str) -> str:
    """Of a program: a word in which a `$` would begin a variable (systemd.service(5), "Command lines")."""
    return _word(text.replace("$", "$$"))


def _word(text: str) -> str:
    """A word of a list, or the program of a command line: quoted where it has to be, without specifiers (systemd.syntax(7),
    "Quoting")."""
    text = _specifiers(text)
    if re.fullmatch(r"[\w/.,:@%$+=-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
