"""What is wrong with a recipe or its data, found before the first phase runs: the last one's would show hours later."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.files import sha256
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.lint import lint_labels
from edgeprune.data.split import open_calibration
from edgeprune.data.street import CachedStreet, StreetSamples
from edgeprune.model.checkpoint import shape_of
from edgeprune.pruning.methods import make_policy, settle
from edgeprune.quantize.loading import read_card
from edgeprune.train.batches import open_mix
from edgeprune.train.fingerprint import CLASSES, choice_of, contents_of, difference, other_classes, without_folders
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import QUANTIZED, SPARSE, SUFFIX, Phase, Recipe
from edgeprune.train.validation import open_validation

logger = logging.getLogger(__name__)

ANEW = "give another --out, or delete it to train the phase again"
RENDERED_FRAMES = 32  # of a street split that are looked at; its labels are exact, the rest is for the histogram


def check_phase(recipe: Recipe, name: str, phase: Phase) -> None:
    """Refuses what can be seen in the recipe alone."""
    if phase.kind not in SPARSE and (phase.options or phase.policy):
        key = "options" if phase.options else "policy"
        raise InputError(f"phase {name}: {key}: a {phase.kind} phase has no policy; take it out")
    make_policy(recipe.policy_of(phase), shape_of(recipe.model))
    before = list(recipe.phases)[: list(recipe.phases).index(name)]
    for key, value in (("start", phase.start), ("teacher", phase.teacher)):
        if value is not None and value.endswith(SUFFIX):
            card = read_card(Path(value))  # refuses what is no checkpoint
            if key == "teacher" and phase.distill_tokens and card.model.size != recipe.model.size:
                raise InputError(
                    f"phase {name}: {value}: tokens of a {card.model.size} model can't be learnt by a "
                    f"{recipe.model.size} one; set distill_tokens: 0, or name another teacher"
                )
        elif value is not None and value not in before:
            found = f"it has {', '.join(before)} before it" if before else "none is before it"
            raise InputError(
                f"phase {name}: {key} is {value!r}, which must be an earlier phase or a {SUFFIX} file; {found}"
            )
    if phase.distills and phase.teacher is None:
        key = "distill" if phase.distill else "distill_tokens"
        raise InputError(f"phase {name}: {key} needs `teacher`, an earlier phase")
    for key, crop, size in (
        ("crop_height", phase.crop_height, recipe.model.height),
        ("crop_width", phase.crop_width, recipe.model.width),
    ):
        patch = recipe.model.patch
        if crop is not None and (crop % patch or not patch <= crop <= size):
            raise InputError(f"phase {name}: {key} is {crop}; expected a multiple of {patch} up to the model's {size}")
    if (phase.crop_height is None) != (phase.crop_width is None):
        raise InputError(f"phase {name}: crop_height and crop_width go together; give both or neither")
    source = recipe.start_of(name)
    if source is not None and source.endswith(SUFFIX):
        has_ranges = read_card(Path(source)).quantized
    else:
        has_ranges = source is not None and recipe.phases[source].kind in QUANTIZED
    if phase.kind in QUANTIZED and not has_ranges and recipe.calibration is None:
        raise InputError(f"phase {name} is quantization-aware and needs `calibration:` in the recipe")


def check_batch(name: str, phase: Phase, processes: int) -> None:
    """Refuses a batch that can't be shared evenly: losses and norms count on shares of one size."""
    shares = processes * phase.accumulate
    if phase.batch % shares:
        parts = f" in {phase.accumulate} parts each" if phase.accumulate > 1 else ""
        below, above = phase.batch // shares * shares, -(-phase.batch // shares) * shares
        near = f"{below} or {above}" if below else str(above)
        raise InputError(
            f"phase {name}: a batch of {phase.batch} can't be shared evenly by {processes} "
            f"process{'es' if processes > 1 else ''}{parts}; set batch to {near}"
        )


def check_validation(recipe: Recipe) -> None:
    """Refuses to choose by what is reported."""
    spec = recipe.validation
    if spec is None:
        return
    remedy = "set split: train and hold_out: 0.1, a part of train that is not trained on"
    if spec.chooses and spec.split != "train":
        key = "keep: best" if spec.keep == "best" else "patience"
        raise InputError(
            f"validation: {key} chooses by the split {spec.split}, whose scores would then be the luck of that choice; "
            f"{remedy}"
        )
    if spec.hold_out is not None and spec.split != "train":
        raise InputError(f"validation: hold_out is a part of the split train, not of {spec.split}; {remedy}")
    if spec.chooses and not spec.times:
        raise InputError("validation: times is 0, so there is nothing to choose by; set times: 4")


def check_done(run: PhaseRun) -> str | None:
    """Refuses a phase's checkpoint that this recipe would not have made: by its settings, and by what it is made of now.

    Returns:
        what could not be compared: a checkpoint of an earlier version, which does not say what it was made of, is taken as it
        is, and so is one whose data can't be read here.
    """
    recipe, phase, name, path = run.recipe, run.phase, run.name, run.checkpoint
    card = read_card(path)
    recorded, now = card.provenance.get("made_of", {}), contents_of(run)
    model = recipe.model
    if "normalise" not in model.model_fields_set:  # it was that of the weights
        model = model.model_copy(update={"normalise": card.model.normalise})
    says = phase.model_dump(mode="json") | {
        "seed": recipe.seed,
        "model": model,
        "policy": settle(recipe.policy_of(phase), shape_of(recipe.model)),
        "validation": choice_of(recipe),
    }
    made = card.provenance.get("recipe", {}) | {
        "model": card.model,
        "policy": settle(card.policy, shape_of(card.model)),
        "validation": card.provenance.get("validation"),
    }
    made["seed"] = card.provenance.get("seed", recipe.seed)
    differing = [
        key for key, value in made.items() if key in says and not _alike(key, says[key], value, key in recorded)
    ]
    if differing:
        what, then, now_says = _where(differing[0], made, says)
        raise InputError(f"{path} was trained with {what} {_short(then)}, the recipe says {_short(now_says)}; {ANEW}")
    changed = difference({CLASSES: json.dumps(card.names)} | recorded, now)
    if changed:
        raise InputError(f"{path} was trained on something else: {changed}; {ANEW}")
    if not recorded:
        return f"{name}: an earlier version wrote {path}, without what it was made of; it is taken as it is"
    if missing := [key for key in recorded if key not in now]:
        return f"{name}: {', '.join(missing)} can't be read here, and was not compared with what {path} is made of"
    return None


def needed(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """Earlier phases whose checkpoints these begin with or learn from."""
    wanted = {value for name in names for value in (recipe.start_of(name), recipe.phases[name].teacher)}
    return [name for name in recipe.phases if name in wanted]


def _alike(key: str, says: Any, made: Any, by_content: bool) -> bool:
    """Of a data set's YAML its name is looked at, in whatever folder. Weights to begin with or to learn from are the same
    where both files are there and equal: in two clones, say.

    Args:
        by_content: what the key names is compared as `contents_of` has it, so a file may be anywhere.
    """
    if key == "data":
        return without_folders(says) == without_folders(made)
    paths = [Path(str(value)) for value in (says, made)]
    if says != made and key in ("start", "teacher") and all(path.suffix == SUFFIX for path in paths):
        return by_content or (all(path.is_file() for path in paths) and sha256(paths[0]) == sha256(paths[1]))
    return bool(says == made)


def _where(key: str, made: dict[str, Any], says: dict[str, Any]) -> tuple[str, Any, Any]:
    """What differs, as it was made and as the recipe says it: of one policy the option, for a policy has many."""
    then, now = made[key], says[key]
    if key == "policy" and then.name == now.name:
        option = next(each for each in now.options if then.options[each] != now.options[each])
        return f"policy {now.name}: {option}", then.options[option], now.options[option]
    return key, then, now


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:200]


def check_data(recipe: Recipe, phases: dict[str, Phase], cache: Path | None) -> dict[str, list[float]]:
    """Opens and lints everything that the phases will read, so that a fault in the last one shows before the first runs.

    Returns:
        for each phase the share of each class among the pixels it will see.
    """
    found: dict[str, list[int]] = {}  # by the split's YAML
    histograms: dict[str, list[float]] = {}
    named: dict[str, list[str]] = {}  # who names the classes, the first one first
    for name, phase in phases.items():
        sets, splits = open_mix(phase.data, cache, recipe.held_out)
        _check_classes(recipe, sets[0], named)
        named.setdefault(f"phase {name}", sets[0].names)
        _check_teacher(name, phase, sets[0].names)
        histograms[name] = [0.0] * recipe.model.classes
        for mix, data_set, samples in zip(phase.data, sets, splits, strict=True):
            key = mix.model_dump_json(exclude={"share"})
            if key not in found:
                rendered = isinstance(samples, CachedStreet | StreetSamples)
                found[key] = _lint(name, samples, data_set, RENDERED_FRAMES if rendered else None)
            # a split counts by its share of a batch, not by how many pixels of it were looked at
            weight = mix.share / max(1, sum(found[key]))
            histograms[name] = [
                share + weight * count for share, count in zip(histograms[name], found[key], strict=True)
            ]
        if sum(share > 0 for share in histograms[name]) < 2:
            raise InputError(
                f"phase {name}: its labels hold no more than one class, so there is nothing to tell apart; correct the "
                "labels, or `names` and `ids` of the data sets"
            )
    if phases and recipe.validation is not None:
        spec = recipe.validation
        data_set, samples = open_validation(spec)
        _check_classes(recipe, data_set, named)
        if spec.chooses:
            _check_apart(recipe, phases, set(samples.names))
        _lint("validation", samples, data_set, spec.frames)
    if phases and recipe.calibration is not None:
        open_calibration(recipe.calibration)
    return histograms


def _check_apart(recipe: Recipe, phases: dict[str, Phase], scored: set[str]) -> None:
    """Frames that something is chosen by are not trained on. Of a set that two YAMLs name, nothing is known."""
    spec = recipe.validation
    assert spec is not None
    for name, phase in phases.items():
        _, splits = open_mix(phase.data, None, recipe.held_out)
        for mix, samples in zip(phase.data, splits, strict=True):
            if mix.split == spec.split and Path(mix.data).resolve() == Path(spec.data).resolve():
                both = [frame for frame in samples.names if frame in scored]
                if both:
                    raise InputError(
                        f"phase {name} trains on {len(both)} of the frames that validation chooses by, {both[0]} the first; "
                        f"exclude {spec.include} from its data, or set hold_out: 0.1"
                    )


def _check_classes(recipe: Recipe, data_set: DataSet, named: dict[str, list[str]]) -> None:
    """One recipe has one list of classes: the weights of a class are handed on by its number."""
    if len(data_set.names) != recipe.model.classes:
        raise InputError(
            f"data set {data_set.name} has {len(data_set.names)} classes, the model {recipe.model.classes}"
        )
    for who, names in named.items():
        if changed := other_classes(names, data_set.names):
            raise InputError(
                f"data set {data_set.name} has other classes than {who}: {changed}; write two recipes, where the second one's "
                f"`start` is the first one's checkpoint"
            )


def _check_teacher(name: str, phase: Phase, names: list[str]) -> None:
    """A teacher in a file of its own must know the same classes, unless its tokens alone are learnt."""
    if phase.distill and phase.teacher is not None and phase.teacher.endswith(SUFFIX):
        changed = other_classes(read_card(Path(phase.teacher)).names, names)
        if changed:
            raise InputError(
                f"phase {name}: teacher {phase.teacher} knows other classes: {changed} in the data; set distill: 0 and "
                f"distill_tokens: 1.0 to learn from its tokens alone, or name a teacher of these classes"
            )


def _lint(what: str, samples: Samples, data_set: DataSet, limit: int | None) -> list[int]:
    report = lint_labels(samples, data_set, limit)
    report.check()
    for line in report.warnings:
        logger.warning(f"{what}: {line}")
    return [int(count) for count in report.pixels_256[: len(data_set.names)]]
