"""Libraries in C that a process preloads: `camera`, a V4L2 camera that is a file, and `clock`, a time of day that is set."""

import subprocess
from pathlib import Path


def compiled(name: str, folder: Path) -> Path:
    """The library, compiled into `folder`.

    Raises:
        OSError: there is no C compiler.
        subprocess.CalledProcessError: it fails, mostly for lack of Linux's headers.
    """
    path = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(path), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return path
