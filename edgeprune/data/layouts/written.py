"""The YAML that `edgeprune data init` writes: what a folder was found to be, complete, with a word on each key."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgeprune.base.errors import InputError
from edgeprune.base.paths import real_path
from edgeprune.data.datasets import FolderSplit
from edgeprune.data.folder import FolderSamples
from edgeprune.data.layouts import Described
from edgeprune.data.pairs import in_time
from edgeprune.data.split import open_split, splits_of

MOST_UP = 2  # a relative `path` leads no more folders up


def yaml_text(described: Described, frames: Mapping[str, int], at: Path) -> str:
    """The YAML of a folder, to be written to `at`. `frames`: how many each split has."""
    content = described.content
    lines = [
        "# A data set of edgeprune, written by `edgeprune data init`. Every key is described in docs/data.md.",
        f"# Taken for {described.layout}, for {described.why}.",
        *(f"# {note[0].upper()}{note[1:]}." for note in described.notes),
        f"name: {_flow(content['name'])}",
        f"path: {_flow(_path(Path(content['path']), real_path(at).parent))}  # relative to this file, or absolute",
        "",
        "# Images and labels of each split, below `path`. `include`, `exclude`: globs over stems; `part: [0, 0.8]`: by name;",
        "# `file_list`: a text file with a stem, or an image and its label, on each line.",
        *(f"{split}: {_flow(content[split])}  # {count:,} frames" for split, count in frames.items()),
        "",
        *_classes(content),
        "ignore_index: 255  # pixels of this id are neither learnt nor scored",
    ]
    return "\n".join(lines) + "\n"


def _classes(content: dict[str, Any]) -> list[str]:
    names = content["names"]
    if isinstance(names, str):
        lines = [f"names: {_flow(names)}  # its classes in their order; write your own as a list"]
    else:
        guessed = names[-1].startswith("class_")
        lines = ["# Classes in the order of their ids" + ("; give them their names." if guessed else "."), "names:"]
        lines += [f"  - {_flow(name)}  # {index}" for index, name in enumerate(names)]
    ids = content.get("ids")
    if isinstance(ids, str):
        lines += [f"ids: {_flow(ids)}  # which ids of the files are which classes"]
    elif ids:
        lines += ["# The class of each id in the files, or `ignore`.", "ids:"]
        lines += [f"  {index}: {_flow(name)}" for index, name in ids.items()]
    if palette := content.get("palette"):
        lines += ["# A colour for each class, in which masks may be written and overlays are drawn.", "palette:"]
        lines += [f"  - {_flow(list(colour))}" for colour in palette]
    if colours := content.get("ignore_colours"):
        lines += [f"ignore_colours: {_flow(colours)}  # of no class"]
    return lines


def _flow(value: Any) -> str:
    """A value as one writes it on a line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def _path(path: Path, beside: Path) -> str:
    """Relative to a folder, unless that leads far up."""
    relative = os.path.relpath(path, beside)
    return str(path) if relative.split(os.sep).count("..") > MOST_UP else relative


def split_by_time(described: Described, share: float, at: Path) -> tuple[Described, dict[Path, str]]:
    """The frames of train and val in the order of their files' names, divided anew; what is called test stays.

    Returns:
        the description with lists in place of folders, and the text of each list, by where it is to be written.

    Raises:
        InputError: labels are polygons, which a list of images and labels can't name.
    """
    data_set = described.data_set()
    assert data_set.path is not None
    pairs: list[tuple[str, str]] = []
    for split in ("train", "val"):
        spec = splits_of(data_set)[split]
        if not isinstance(spec, FolderSplit) or spec.format != "masks":
            raise InputError(
                f"{data_set.path}: splits of COCO's JSON or of YOLO's polygons can't be divided anew; export the frames as one "
                "split, and --split-by-time divides that"
            )
        samples = open_split(data_set, split)
        assert isinstance(samples, FolderSamples)
        for index in range(len(samples)):
            image, label = (os.path.relpath(path, data_set.path) for path in samples.files(index))
            pairs.append((image, label))
    pairs.sort(key=lambda pair: in_time(Path(pair[0]).stem))
    begin = round(share * len(pairs))
    end = max(begin - round(0.05 * len(pairs)), 1)
    lists, splits = {}, {}
    for split, part in (("train", pairs[:end]), ("val", pairs[begin:])):
        if not part:
            raise InputError(f"--split-by-time {share:g} leaves no {split} of {len(pairs)} frames; give another share")
        path = at.with_name(f"{at.stem}-{split}.txt")
        lists[path] = "".join(f"{image}\t{label}\n" for image, label in part)
        splits[split] = {"images": ".", "labels": ".", "file_list": _path(real_path(path), data_set.path)}
    note = f"train and val were divided anew by time, at {share:.0%} of the frames in the order of their names"
    content = described.content | splits
    return Described(described.layout, described.why, content, [*described.notes, note]), lists
