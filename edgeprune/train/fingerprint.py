"""What decides a phase's weights, as digests: its settings, and the content of what it reads, which are its frames, the
classes, the weights that it begins with and learns from. A later or resumed phase so notices what has changed, and a clone
that has moved does not look changed.

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
from edgeprune.data.classes import thing_classes
from edgeprune.data.datasets import DataSet, StreetSplit, load_data_set
from edgeprune.data.folder import FolderSamples
from edgeprune.data.selection import FrameSelection
from edgeprune.data.split import SPLITS
from edgeprune.model.checkpoint import shape_of
from edgeprune.model.spec import ModelSpec
from edgeprune.model.weight_files import find_weights, read_safetensors
from edgeprune.pruning.methods import settle
from edgeprune.train.batches import open_part
from edgeprune.train.checkpoint_file import names_file
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import QUANTIZED, SUFFIX, Recipe
from edgeprune.train.tasks import reads_things

CLASSES = "classes"
NEWER = (
    "convolutions",
    "label_stride",
    "queries",
    "mask_extent",
)  # keys of a model, which had the default's value before there was a key
Contents = dict[str, str]  # what -> its digest; of `classes` their names as JSON, of BEGINS the keys of the recipe
BEGINS, START = "begins", "start"
CALIBRATED = "calibrated"  # by what INT8 ranges were measured, beside the frames
THINGS = "things"  # which classes are learnt as things, as JSON


def settings_digest(run: PhaseRun) -> str:
    """Of the settings that decide a phase's steps: a state of another recipe must not be resumed. Files count by their
    content (`contents_of`), not by where they are."""
    recipe, phase = run.recipe, run.phase.model_dump()
    for newer in ("remember", "guided"):  # a state of before there was such a key
        if not phase[newer]:
            del phase[newer]
    phase["data"] = as_compared(phase["data"])
    phase |= {key: _without_place(phase[key]) for key in ("start", "teacher")}
    content: dict[str, Any] = {
        "seed": recipe.seed,
        "model": _as_before(recipe.model),
        "policy": settle(recipe.policy_of(run.phase), shape_of(recipe.model)).model_dump(),
        "phase": phase,
    }
    if (choice := choice_of(recipe)) is not None:
        content["validation"] = choice
    if run.network is not None:
        content["network"] = run.network
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _without_place(named: Any) -> Any:
    """What `start` or `teacher` names, each file as the suffix alone."""
    if isinstance(named, list):
        return [_without_place(each) for each in named]
    return SUFFIX if names_file(str(named)) else named


def teacher_keys(count: int) -> list[str]:
    """Keys of a phase's teachers in `contents_of`: `teacher`, or `teacher 1`, `teacher 2`."""
    return ["teacher"] if count == 1 else [f"teacher {number}" for number in range(1, count + 1)]


def _as_before(model: ModelSpec) -> dict[str, Any]:
    """The keys of the model; of those that states of an earlier version do not have, the ones that are not what all models
    were then."""
    said, then = model.model_dump(), ModelSpec().model_dump()
    return {key: value for key, value in said.items() if key not in NEWER or value != then[key]}


def choice_of(recipe: Recipe) -> dict[str, Any] | None:
    """By what validation the weights are chosen; None where they are those of the last step."""
    spec = recipe.validation
    if spec is None or not spec.chooses:
        return None
    return spec.model_dump(mode="json") | {"data": Path(spec.data).name}


def contents_of(run: PhaseRun) -> Contents:
    """Of what the phase would be made now. What is not at hand (a set that has moved, weights of a hub that can't be
    reached) is left out."""
    recipe, phase = run.recipe, run.phase
    found: Contents = {}
    for index, mix in enumerate(phase.data, start=1):
        with suppress(InputError):  # the phase itself says so when it needs them
            data_set = load_data_set(mix.data)
            found[f"data {index}"] = _describe(mix, data_set, open_part(mix, data_set, recipe.held_out))
            found[CLASSES] = json.dumps(data_set.names)
            if reads_things(recipe, phase):
                found[THINGS] = json.dumps([data_set.names[index] for index in sorted(thing_classes(data_set))])
    if phase.kind in QUANTIZED and recipe.calibration is not None:
        with suppress(InputError):
            source = recipe.calibration
            data_set = load_data_set(source.data)
            samples = open_split(data_set, source.split, source.include, source.exclude)
            found["calibration"] = _describe(source, data_set, samples)
            how = source.model_dump(exclude={"data", "split", "include", "exclude"})
            found[CALIBRATED] = ",".join(f"{key}={value}" for key, value in how.items())
    weights = {START: run.start}
    if phase.distills:
        weights |= zip(teacher_keys(len(phase.teachers)), phase.teachers, strict=True)
    paths = {key: run.checkpoint_of(value) for key, value in weights.items() if value is not None}
    if run.start is None:
        begun = {key: value for key, value in (("weights", recipe.weights), ("head", recipe.head)) if value is not None}
        found[BEGINS] = ",".join(begun) or "nothing"
        for key, value in begun.items():
            with suppress(InputError):
                paths[key] = find_weights(value)
    return found | {key: weights_digest(path) for key, path in paths.items() if path.is_file()}


def _describe(source: FrameSelection, data_set: DataSet, samples: Samples) -> str:
    return f"{frames_digest(data_set, source.split, samples)} {data_set.name} {source.split}"


def frames_digest(data_set: DataSet, split: str, samples: Samples) -> str:
    """Digest of a split: its frames' names, the sizes of their files in bytes, and what the set says of its labels."""
    # what a set says by default is left out, so that a key that a later version adds changes nothing
    says = data_set.model_dump(
        mode="json", exclude={"name", "path", "palette", "names", "things", *SPLITS}, exclude_defaults=True
    )
    if isinstance(spec := getattr(data_set, split), StreetSplit):
        later = {"population", "clip"}  # keys that earlier runs did not have
        says |= spec.model_dump(exclude=later) | spec.model_dump(include=later, exclude_defaults=True)
    if isinstance(samples, FolderSamples) and samples.coloured:
        says["palette"] = data_set.palette  # of ids it is for looking at alone
    digest = hashlib.sha256(json.dumps(says, sort_keys=True).encode())
    for index, name in enumerate(samples.names):
        files = samples.files(index) if isinstance(samples, FolderSamples) else ()
        digest.update(f"{name} {[path.stat().st_size for path in files if path.is_file()]}\n".encode())
    return digest.hexdigest()[:16]


def weights_digest(path: Path) -> str:
    """Digest of a safetensors file: its tensors, whatever its header says beside them.

    Raises:
        InputError: the file is damaged.
    """
    digest = hashlib.sha256()
    for key, value in sorted(read_safetensors(path).items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def as_compared(data: Any) -> Any:
    """A phase's `data`, with the YAMLs of its sets without the folders they are in, and without keys that are null, which say
    nothing and which an earlier version may not have had; of another form, as it is."""
    if not isinstance(data, list):
        return data
    return [_as_compared(mix) if isinstance(mix, dict) and "data" in mix else mix for mix in data]


def _as_compared(mix: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in mix.items() if value is not None}
    return said | {"data": Path(str(mix["data"])).name}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """What has changed, in words; None where nothing has that both know."""
    if before and BEGINS not in before and "head" in now:  # an earlier version knew of none
        return "it began without a `head`"
    began, begins = (START if START in each else each.get(BEGINS) for each in (before, now))
    if START in (began, begins) and None not in (began, begins) and began != begins:
        return _began_with(str(began), str(begins))
    for key, value in before.items():
        theirs, ours = value.split(" "), now.get(key, value).split(" ")
        if key == CLASSES and now.get(key, value) != value:
            return other_classes(json.loads(value), json.loads(now[key]))
        if key == THINGS and now.get(key, value) != value:
            were, are = (", ".join(json.loads(each)) for each in (value, now[key]))
            return f"its things were {were}, and the data's are {are}"
        if theirs[0] == ours[0]:
            continue
        if key == BEGINS:
            return _began_with(value, ours[0])
        if key == CALIBRATED:
            return f"its INT8 ranges were measured with {value}, the recipe says {ours[0]}"
        if theirs[1:] != ours[1:]:
            return f"{key} was {' '.join(theirs[1:])}, and is {' '.join(ours[1:])}"
        if theirs[1:]:
            return f"{key} ({' '.join(ours[1:])}) has other frames now, or other labels: their names or sizes differ"
        return f"`{key}` holds other weights now"
    return None


def _began_with(then: str, now: str) -> str:
    phase = {START: "an earlier phase or a `start`"}
    said = [phase.get(each, each.replace(",", " and ")) for each in (then, now)]
    return f"it began with {said[0]}, the recipe says {said[1]}"


def other_classes(before: list[str], now: list[str]) -> str | None:
    """How lists of class names differ, in words; None where they don't."""
    if before == now:
        return None
    if len(before) != len(now):
        return f"there were {len(before)} classes, and are {len(now)}"
    index = next(index for index, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
    return f"class {index} was {before[index]!r}, and is {now[index]!r}"
