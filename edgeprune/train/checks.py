"""What is wrong with a recipe, or with a phase that is done, found before the first one runs: the last one's faults would show
hours later."""

import json
from collections.abc import Iterable
from os.path import isfile
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.files import sha256
from edgeprune.model.card import ANY
from edgeprune.model.checkpoint import shape_of
from edgeprune.pruning.methods import make_policy, settle
from edgeprune.quantize.loading import read_card
from edgeprune.train.checkpoint_file import file_named, find_named, names_file
from edgeprune.train.fingerprint import CLASSES, Contents, as_compared, choice_of, contents_of, difference, teacher_keys
from edgeprune.train.frames_before import check_remembering
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.policy_alone import check_policy_alone
from edgeprune.train.recipe import QUANTIZED, SPARSE, SUFFIX, Phase, Recipe
from edgeprune.train.tasks import find_task
from edgeprune.train.teachers import check_teachers
from edgeprune.train.tensorboard import check_tensorboard

ANEW = "give another --out, or delete it to train the phase again"


def check_recipe(recipe: Recipe, names: Iterable[str], processes: int, network: str | None = None) -> None:
    """Refuses what can be seen before anything is opened, of the phases that will run: files that others begin with or learn
    from need not be here. `network`: what is trained; None: a ViT."""
    check_validation(recipe)
    if recipe.tensorboard:
        check_tensorboard()
    for name in names:
        phase = recipe.phases[name]
        check_phase(recipe, name, phase)
        check_batch(name, phase, processes)
        check_remembering(recipe, name, phase, processes, network)


def check_phase(recipe: Recipe, name: str, phase: Phase) -> None:
    """Refuses what can be seen in the recipe alone."""
    if phase.kind not in SPARSE and (phase.options or phase.policy):
        key = "options" if phase.options else "policy"
        raise InputError(f"phase {name}: {key}: a {phase.kind} phase has no policy; take it out")
    check_policy_alone(name, phase, make_policy(recipe.policy_of(phase), shape_of(recipe.model)))
    before = list(recipe.phases)[: list(recipe.phases).index(name)]
    if recipe.head is not None and phase.start is not None and not before:
        raise InputError(
            f"phase {name} starts from {phase.start}, whose head it takes; take `start` out, or `head` of the recipe"
        )
    for key, value in (("start", phase.start), *(("teacher", teacher) for teacher in phase.teachers)):
        if value is not None and names_file(value):
            path = find_named(value, f"phase {name}: {key}")
            read_card(path, ANY if key == "teacher" else None)  # refuses what is no checkpoint
        elif value is not None and value not in before:
            found = f"it has {', '.join(before)} before it" if before else "none is before it"
            raise InputError(
                f"phase {name}: {key} is {value!r}, which must be an earlier phase or a {SUFFIX} file; {found}"
            )
    check_teachers(recipe, name, phase)
    find_task(recipe).check(recipe, name, phase)
    for key, crop, size in (
        ("crop_height", phase.crop_height, recipe.model.height),
        ("crop_width", phase.crop_width, recipe.model.width),
    ):
        patch = recipe.model.patch
        if crop is not None and (crop % patch or not patch <= crop <= size):
            raise InputError(f"phase {name}: {key} is {crop}; expected a multiple of {patch} up to the model's {size}")
    if (phase.crop_height is None) != (phase.crop_width is None):
        raise InputError(f"phase {name}: crop_height and crop_width go together; give both or neither")
    _check_frozen(recipe, name, phase)
    _check_auxiliary(recipe, name, phase)
    source = recipe.start_of(name)
    if source is not None and names_file(source):
        has_ranges = read_card(file_named(source)).quantized
    else:
        has_ranges = source is not None and recipe.phases[source].kind in QUANTIZED
    if phase.kind in QUANTIZED and not has_ranges and recipe.calibration is None:
        raise InputError(f"phase {name} is quantization-aware and needs `calibration:` in the recipe")


def _check_frozen(recipe: Recipe, name: str, phase: Phase) -> None:
    """Refuses to freeze blocks that are not there, or that were never trained."""
    depth = recipe.model.depth
    if phase.freeze > depth:
        raise InputError(
            f"phase {name}: freeze is {phase.freeze}, and the model has {depth} blocks; set at most {depth}"
        )
    if phase.freeze and recipe.start_of(name) is None and recipe.weights is None:
        raise InputError(
            f"phase {name}: freeze: {phase.freeze} would keep random weights, for the phase starts from nothing; give "
            "`weights` or `start`, or set freeze: 0"
        )


def _check_auxiliary(recipe: Recipe, name: str, phase: Phase) -> None:
    """Refuses auxiliary heads on tokens that are not there, or that teach nothing."""
    if phase.auxiliary is None:
        return
    blocks, depth = phase.auxiliary.blocks, recipe.model.depth
    said = f"phase {name}: auxiliary.blocks is {blocks}"
    if blocks != sorted(set(blocks)) or blocks[-1] >= depth:
        raise InputError(
            f"{said}; expected rising numbers under the model's {depth} blocks, after which the main head is"
        )
    if blocks[0] <= phase.freeze:
        raise InputError(f"{said}, where freeze: {phase.freeze} lets nothing learn from block {blocks[0]}; take it out")
    policy = make_policy(recipe.policy_of(phase), shape_of(recipe.model))
    if not policy.keeps_grid and blocks[-1] >= policy.schedule.trunk_depth:
        raise InputError(
            f"{said}, and policy {recipe.policy_of(phase).name} merges tokens after {policy.schedule.trunk_depth}, so no grid "
            "is left there; train the heads in a dense phase"
        )


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
    card = read_card(path, run.network)
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
    differing = [key for key, value in made.items() if key in says and not _alike(key, says[key], value, recorded)]
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
    wanted = {value for name in names for value in (recipe.start_of(name), *recipe.phases[name].teachers)}
    return [name for name in recipe.phases if name in wanted]


def with_all_before(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """These phases, those that they need, what those need, and so on."""
    wanted = set(names)
    for name in reversed(recipe.phases):
        if name in wanted:
            wanted.update(needed(recipe, [name]))
    return [name for name in recipe.phases if name in wanted]


def _alike(key: str, says: Any, made: Any, recorded: Contents) -> bool:
    """Whether a key of a phase says what it said when its checkpoint was made.

    Args:
        recorded: what the checkpoint was made of.
    """
    if key == "data":  # of a data set's YAML its name is looked at, in whatever folder
        return as_compared(says) == as_compared(made)
    if key == "start":
        return _same_weights(says, made, key in recorded)
    if key == "teacher":
        ours, theirs = (value if isinstance(value, list) else [value] for value in (says, made))
        return len(ours) == len(theirs) and all(
            _same_weights(one, other, each in recorded)
            for one, other, each in zip(ours, theirs, teacher_keys(len(ours)), strict=True)
        )
    return bool(says == made)


def _same_weights(says: Any, made: Any, by_content: bool) -> bool:
    """Weights to begin with or to learn from are the same where both files are there and equal: in two clones, say.

    Args:
        by_content: what the key names is compared as `contents_of` has it, so a file may be anywhere.
    """
    named = [str(value) for value in (says, made)]
    if says != made and all(map(names_file, named)):
        paths = [file_named(each) for each in named]
        return by_content or (all(map(isfile, paths)) and sha256(paths[0]) == sha256(paths[1]))
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
