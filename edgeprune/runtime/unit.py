"""The systemd unit of a run. What each setting means, and where systemd says so, stands in docs/service.md."""

import os
import pwd
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.device import CACHE_VARIABLE
from edgeprune.base.errors import InputError

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
        writes: the outputs.
        user: who runs it; None: a user that systemd makes up.
        groups: that the machine has, of devices.
    """

    config: Path
    python: Path
    bundle: Path
    cameras: Sequence[str]
    writes: Sequence[Path] = ()
    user: str | None = None
    groups: Sequence[str] = ()

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
        if self.user is None:
            self._refuse_what_a_dynamic_user_lacks()
        elif _uid_of(self.user) == 0:
            raise InputError(f"--user {self.user} is root, whom a camera service does not need; name another user")
        for path in (self.config, self.python, *self.writes):
            if not str(path).isprintable():
                raise InputError(f"{str(path)!r} has characters that no unit can hold; rename it")
        folders = sorted({str(path.parent) for path in self.writes if not self._is_state(path)})
        for folder in folders:
            if not os.path.isdir(folder):
                raise InputError(f"{folder} is not there, where the run is to write; make it first: mkdir -p {folder}")
        return UNIT.format(
            mark=self.mark,
            config=_specifiers(str(self.config)),
            command=" ".join(map(_word, [str(self.python), "-m", "edgeprune", "run", "--config", str(self.config)])),
            folder=_specifiers(str(self.config.parent)),
            cache_variable=CACHE_VARIABLE,
            cache=CACHES / self.name,
            identity="DynamicUser=yes" if self.user is None else f"User={self.user}",
            groups=f"SupplementaryGroups={' '.join(self.groups)}\n" if self.groups else "",
            watchdog_s=WATCHDOG_S,
            start_s=START_S,
            private_tmp="no" if self._needs_tmp else "yes",
            name=self.name,
            writes=f"ReadWritePaths={' '.join(map(_word, folders))}\n" if folders else "",
        )

    @property
    def _needs_tmp(self) -> str | None:
        """What of it lies in the machine's own /tmp: NVIDIA's camera daemon is reached by /tmp/argus_socket."""
        if csi := next((camera for camera in self.cameras if camera.startswith("csi:")), None):
            return f"{csi} is reached by /tmp/argus_socket, which"
        used = (self.config, self.python, self.bundle, *self.writes)
        return next((str(path) for path in used if any(Path(tmp) in path.parents for tmp in TMP)), None)

    def _is_state(self, path: Path) -> bool:
        return STATE / self.name in path.parents

    def _refuse_what_a_dynamic_user_lacks(self) -> None:
        other = "give --user NAME, one who may"
        if self._needs_tmp:
            raise InputError(f"{self._needs_tmp} a dynamic user does not see, whose /tmp is its own; {other}")
        for path in self.writes:
            if not self._is_state(path):
                raise InputError(
                    f"{path} can't be written by a dynamic user, who owns {STATE / self.name} alone; {other}, or put it there"
                )
        for path in (self.config, self.python, Path(__file__), self.bundle):
            if closed := _closed_to_others(path):
                raise InputError(f"{closed} can't be read by a dynamic user, but by its owner or group alone; {other}")


def _closed_to_others(path: Path) -> Path | None:
    """The path, where it leads to, or a folder above, that others than its owner and group may not read or pass."""
    for each in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for part in (each, *each.parents):
            try:
                mode = part.stat().st_mode
            except OSError:  # it is refused where it is opened
                return None
            needed = stat.S_IROTH if part == each and not stat.S_ISDIR(mode) else stat.S_IXOTH
            if not mode & needed:
                return part
    return None


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise InputError(
            f"--user {user} is nobody on this machine; type an existing user, or make one: sudo useradd --system {user}"
        ) from None


def _specifiers(text: str) -> str:
    """`%` begins a specifier (systemd.unit(5), "Specifiers")."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """A word of a command line or a list: quoted where it has to be, without specifiers and variables (systemd.service(5),
    "Command lines"; systemd.syntax(7), "Quoting")."""
    text = _specifiers(text).replace("$", "$$")
    if re.fullmatch(r"[\w/.,:@%$+=-]+", text, re.ASCII):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
