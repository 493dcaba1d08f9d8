"""What an output is called that each camera of a run has for itself."""

from pathlib import Path


def names_a_folder(name: str) -> bool:
    """Whether an output is a folder of files: `out/rows/`, or one that is there."""
    return bool(name) and (name.endswith("/") or Path(name).is_dir())


def file_of_camera(name: str, camera: str) -> str:
    """A folder has a folder for each camera in it, with its suffix; a file has the camera's name before its suffix.

    `rows/` -> `rows/front/`; `rows.jsonl/` -> `rows.jsonl/front.jsonl/`; `rows.csv` -> `rows-front.csv`; `labels`, a folder
    that is to be made, -> `labels/front`
    """
    path = Path(name)
    if names_a_folder(name):
        return f"{path / camera}{path.suffix}/"
    return str(path.with_name(f"{path.stem}-{camera}{path.suffix}") if path.suffix else path / camera)


def topic_of_camera(name: str, camera: str) -> str:
    """`mqtt://host/street` -> `mqtt://host/street/front`"""
    return f"{name.rstrip('/')}/{camera}"


def shared(name: str, camera: str) -> str:
    """One is of all cameras."""
    return name
