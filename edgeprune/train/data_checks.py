"""What is wrong with the data of a recipe's phases, found before the first one runs."""

import logging
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.paths import real_path
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.lint import LabelReport, lint_labels
from edgeprune.data.split import open_calibration
from edgeprune.data.street import CachedStreet, StreetSamples
from edgeprune.model.card import ANY
from edgeprune.quantize.loading import read_card
from edgeprune.train.batches import open_mix
from edgeprune.train.checkpoint_file import file_named, names_file
from edgeprune.train.fingerprint import other_classes
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks import find_task, reads_things
from edgeprune.train.validation import open_validation

logger = logging.getLogger(__name__)

RENDERED_FRAMES = 32  # of a street split that are looked at; its labels are exact, the rest is for the histogram


def check_data(recipe: Recipe, phases: dict[str, Phase], cache: Path | None) -> dict[str, list[float]]:
    """Opens and lints everything that the phases will read, so that a fault in the last one shows before the first runs.

    Returns:
        for each phase the share of each class among the pixels it will see.
    """
    found: dict[str, list[int]] = {}  # by the split's YAML
    histograms: dict[str, list[float]] = {}
    named: dict[str, list[str]] = {}  # who names the classes, the first one first
    for name, phase in phases.items():
        sets, splits = open_mix(phase.data, cache, recipe.held_out, reads_things(recipe, phase))
        _check_classes(recipe, sets[0], named)
        named.setdefault(f"phase {name}", sets[0].names)
        _check_teachers(name, phase, sets[0].names)
        histograms[name] = [0.0] * recipe.model.classes
        for mix, data_set, samples in zip(phase.data, sets, splits, strict=True):
            key = mix.model_dump_json(exclude={"share"})
            if key not in found:
                rendered = isinstance(samples, CachedStreet | StreetSamples)
                report = _lint(name, samples, data_set, RENDERED_FRAMES if rendered else None)
                found[key] = [int(count) for count in report.pixels_256[: len(data_set.names)]]
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
        data_set, samples = open_validation(spec, find_task(recipe).things)
        _check_classes(recipe, data_set, named)
        if spec.chooses:
            _check_apart(recipe, phases, set(samples.names))
        report = _lint("validation", samples, data_set, spec.frames)
        if find_task(recipe).things and not report.things:
            raise InputError(
                f"validation: none of the {report.frames} frames of data set {data_set.name!r} that are scored has a thing; of "
                f"{len(samples)} score more (validation.frames), or name others (validation.include)"
            )
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
            if mix.split == spec.split and real_path(Path(mix.data)) == real_path(Path(spec.data)):
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


def _check_teachers(name: str, phase: Phase, names: list[str]) -> None:
    """A teacher in a file of its own must know the same classes, unless its tokens alone are learnt."""
    if not phase.distill:
        return
    for teacher in phase.teachers:
        card = read_card(file_named(teacher), ANY) if names_file(teacher) else None
        if card is not None and (changed := other_classes(card.names, names)):
            alone = card.network is None and len(phase.teachers) == 1
            by_tokens = "set distill: 0 and distill_tokens: 1.0 to learn from its tokens alone, or " if alone else ""
            raise InputError(
                f"phase {name}: teacher {teacher} knows other classes: {changed} in the data; {by_tokens}name a teacher of "
                "these classes"
            )


def _lint(what: str, samples: Samples, data_set: DataSet, limit: int | None) -> LabelReport:
    report = lint_labels(samples, data_set, limit)
    report.check()
    for line in report.warnings:
        logger.warning(f"{what}: {line}")
    return report
