"""What a phase's weights are made of, by content: its frames, the classes, the weights it begins with and learns from. A
later or resumed phase so notices what has changed, and a clone that has moved does not look changed.

Frames are told by the names and sizes of their files, not by their pixels: a set of 100 GB is not read for it. Scenes of
the street are told by their seeds; the renderer, like the trainer, is a matter of edgeprune's version.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from edgeprune.base.errors import InputError
from edgeprune.data import Samples, open_split
from edgeprune.data.datasets import DataSet, StreetSplit, load_data_set
from edgeprune.data.folder import FolderSamples
from edgeprune.data.labels import is_coloured
from edgeprune.data.selection import Source
from edgeprune.data.split import SPLITS
from edgeprune.model.weights import find_weights, read_safetensors
from edgeprune.train.named import SUFFIX
from edgeprune.train.recipe import QUANTIZED, Recipe

CLASSES = "classes"
MadeOf = dict[str, str]  # what -> its digest; of `classes` their names as JSON


def checkpoint_of(name: str, out: Path) -> Path:
    """The checkpoint that `start` or `teacher` names: of an earlier phase in `out`, or a file of its own."""
    return Path(name) if name.endswith(SUFFIX) else out / f"{name}{SUFFIX}"


def begins_with(recipe: Recipe, name: str) -> str | None:
    """What a phase starts from: an earlier phase or a checkpoint; None where it is the recipe's `weights`, or nothing."""
    names = list(recipe.phases)
    before = names[names.index(name) - 1] if names.index(name) else None
    return recipe.phases[name].start or before


def made_of(recipe: Recipe, name: str, out: Path) -> MadeOf:
    """Of what the phase would be made now. What is not at hand (a set that has moved, weights of a hub that can't be
    reached) is left out."""
    phase = recipe.phases[name]
    found: MadeOf = {}
    for index, mix in enumerate(phase.data, start=1):
        with suppress(InputError):  # the phase itself says so when it needs them
            data_set, found[f"data {index}"] = _content(mix)
            found[CLASSES] = json.dumps(data_set.names)
    if phase.kind in QUANTIZED and recipe.calibration is not None:
        with suppress(InputError):
            _, found["calibration"] = _content(recipe.calibration)
    before = begins_with(recipe, name)
    weights = {"start": before, "teacher": phase.teacher if phase.distill or phase.distill_tokens else None}
    paths = {key: checkpoint_of(value, out) for key, value in weights.items() if value is not None}
    if before is None and recipe.weights is not None:
        with suppress(InputError):
            paths["weights"] = find_weights(recipe.weights)
    return found | {key: content_of_weights(path) for key, path in paths.items() if path.is_file()}


def _content(source: Source) -> tuple[DataSet, str]:
    data_set = load_data_set(source.data)
    samples = open_split(data_set, source.split, source.include, source.exclude)
    return data_set, f"{content_of_frames(data_set, source.split, samples)} {data_set.name} {source.split}"


def content_of_frames(data_set: DataSet, split: str, samples: Samples) -> str:
    """Of a split: its frames' names, the sizes of their files in bytes, and what the set says of its labels."""
    # what a set says by default is left out, so that a key that a later version adds changes nothing
    says = data_set.model_dump(
        mode="json", exclude={"name", "path", "palette", "names", *SPLITS}, exclude_defaults=True
    )
    if isinstance(spec := getattr(data_set, split), StreetSplit):
        says |= spec.model_dump()
    if isinstance(samples, FolderSamples) and is_coloured(samples.files(0)[1]):
        says["palette"] = data_set.palette  # of ids it is for looking at alone
    digest = hashlib.sha256(json.dumps(says, sort_keys=True).encode())
    for index, name in enumerate(samples.names):
        files = samples.files(index) if isinstance(samples, FolderSamples) else ()
        digest.update(f"{name} {[path.stat().st_size for path in files if path.is_file()]}\n".encode())
    return digest.hexdigest()[:16]


def content_of_weights(path: Path) -> str:
    """Of a safetensors file: its tensors, whatever its header says beside them.

    Raises:
        InputError: the file is damaged.
    """
    digest = hashlib.sha256()
    for key, value in sorted(read_safetensors(path).items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def without_folders(data: Any) -> Any:
    """A phase's `data`, with the YAMLs of its sets without the folders they are in; of another form, as it is."""
    if not isinstance(data, list):
        return data
    return [
        mix | {"data": Path(str(mix["data"])).name} if isinstance(mix, dict) and "data" in mix else mix for mix in data
    ]


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """What has changed, in words; None where nothing has that both know."""
    for key, value in before.items():
        theirs, ours = value.split(" "), now.get(key, value).split(" ")
        if key == CLASSES and now.get(key, value) != value:
            return other_classes(json.loads(value), json.loads(now[key]))
        if theirs[0] == ours[0]:
            continue
        if theirs[1:] != ours[1:]:
            return f"{key} was {' '.join(theirs[1:])}, and is {' '.join(ours[1:])}"
        if theirs[1:]:
            return f"{key} ({' '.join(ours[1:])}) has other frames now, or other labels: their names or sizes differ"
        return f"`{key}` holds other weights now"
    return None


def other_classes(before: list[str], now: list[str]) -> str | None:
    """How lists of class names differ, in words; None where they don't."""
    if before == now:
        return None
    if len(before) != len(now):
        return f"there were {len(before)} classes, and are {len(now)}"
    index = next(index for index, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
    return f"class {index} was {before[index]!r}, and is {now[index]!r}"
