"""One loop for the dense, sparse and quantization-aware phases of a recipe; resumable after `kill -9`.

Everything random in step s is drawn from (seed, phase, s), so a state on disk needs no generator states: a resumed run
takes the same steps as an undisturbed one.

Shapes: B batch, K classes, H W pixels.
"""

import hashlib
import json
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeprune import __version__
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import make_folder, write_atomic
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.blocks import Block
from edgeprune.model.checkpoint import save, shape_of
from edgeprune.model.policy import select_all
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods import make_policy, settle
from edgeprune.quantize.calibrate import calibrate, ptq_ranges, write_calib
from edgeprune.quantize.linear import load_quantizers
from edgeprune.quantize.loading import make_model
from edgeprune.quantize.ranges import apply_ranges
from edgeprune.train.augment import Augment
from edgeprune.train.batches import Mixture, Plan, load_batches, open_mix
from edgeprune.train.begin import card_of, check_start, has_ranges, load_teacher, load_weights
from edgeprune.train.checks import check_data, check_done, check_phase, needed
from edgeprune.train.clock import Clock
from edgeprune.train.losses import (
    class_weights,
    cross_entropy,
    distance_to_teacher,
    distance_to_tokens,
    jaccard_distance,
)
from edgeprune.train.made_of import checkpoint_of, difference, made_of, without_folders
from edgeprune.train.named import SUFFIX, check_named
from edgeprune.train.optimiser import learning_rate, make_optimiser, set_learning_rate
from edgeprune.train.progress import Progress, forget_progress, read_progress, restore_optimiser, write_progress
from edgeprune.train.recipe import QUANTIZED, SPARSE, Phase, Recipe
from edgeprune.train.validation import open_validation, score

Say = Callable[[str], None]


def train(recipe: Recipe, out: Path, say: Say, cache: Path | None = None, only: list[str] | None = None) -> list[Path]:
    """Runs the phases in order; a phase whose checkpoint is there already is taken as done.

    Args:
        out: gets `<phase>.safetensors`, `<phase>.json` (history) and `calib-<phase>.yaml`.
        say: prints one line.
        cache: where rendered street scenes are kept.
        only: run these phases alone.

    Returns:
        the checkpoint of each phase.
    """
    make_folder(out, "checkpoints")
    check_named(recipe, out, only or [])
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    for name, phase in recipe.phases.items():
        check_phase(recipe, name, phase)
    _device(recipe)
    chosen = {name: phase for name, phase in recipe.phases.items() if not only or name in only}
    paths = {name: out / f"{name}.safetensors" for name in chosen}
    done = [name for name, path in paths.items() if path.is_file()]
    due = {name: phase for name, phase in chosen.items() if name not in done}
    for name in recipe.phases:
        if name in done or (name in needed(recipe, due) and name not in due and checkpoint_of(name, out).is_file()):
            check_done(recipe, name, checkpoint_of(name, out), out, say)
    histograms = check_data(recipe, due, say, cache)
    for name, phase in due.items():
        check_start(recipe, name, phase, out)
    for index, (name, phase) in enumerate(chosen.items()):
        if name not in done:
            run_phase(recipe, name, phase, out, say, cache, histograms[name])
            continue
        if any(before in due for before in list(chosen)[:index]):  # what it is made of may just have been trained anew
            check_done(recipe, name, paths[name], out, lambda _: None)
        say(f"{name}: done before, {paths[name]}")
    return list(paths.values())


def _device(recipe: Recipe) -> torch.device:
    if recipe.device != "auto":
        try:
            return torch.zeros(0, device=recipe.device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {recipe.device!r} can't be used ({reason}); try `device: cpu`") from None
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _helps_bf16(recipe: Recipe, device: torch.device) -> bool:
    """bf16 pays where the machine multiplies in it: half the step time on a CPU with AVX-512 bf16, slower without."""
    if recipe.bf16 != "auto":
        return recipe.bf16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


def fingerprint(recipe: Recipe, name: str) -> str:
    """Of the settings that decide a phase's steps: a state of another recipe must not be resumed. Files count by their
    content (`made_of`), not by where they are."""
    phase = recipe.phases[name].model_dump()
    phase["data"] = without_folders(phase["data"])
    phase |= {key: SUFFIX for key in ("start", "teacher") if str(phase[key]).endswith(SUFFIX)}
    content: dict[str, Any] = {
        "seed": recipe.seed,
        "model": recipe.model.model_dump(),
        "policy": settle(recipe.policy_of(recipe.phases[name]), shape_of(recipe.model)).model_dump(),
        "phase": phase,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _seed(recipe: Recipe, name: str, step: int) -> int:
    digest = hashlib.sha256(f"{recipe.seed}/{name}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "little")


def run_phase(
    recipe: Recipe, name: str, phase: Phase, out: Path, say: Say, cache: Path | None, histogram: list[float]
) -> None:
    """Setup, steps, validation, checkpoint of one phase. `histogram`: share of each class in its data."""
    device = _device(recipe)
    sets, splits = open_mix(phase.data, cache)
    data_set = sets[0]
    if phase.kind in QUANTIZED:
        say(f"{name}: loads NNCF's quantizers; the first time on a machine they are compiled, about a minute")
        load_quantizers(device, say)

    card = card_of(recipe, phase, data_set)  # makes a policy, and so draws: before the seed
    chosen = make_policy(recipe.policy_of(phase), shape_of(recipe.model)).chosen
    torch.manual_seed(_seed(recipe, name, -1))
    model = make_model(card)
    for key, value in chosen.items():
        say(f"{name}: policy {card.policy.name}: {key} {value}, chosen for this model")
    started_from = load_weights(recipe, name, model, card.names, out, say)
    steps = max(min(1, phase.frames), phase.frames // phase.batch)
    mark, contents = fingerprint(recipe, name), made_of(recipe, name, out)
    saved = read_progress(out / name, mark)
    if saved is not None and (changed := difference(saved[0].made_of, contents)):
        raise InputError(
            f"{out / name} holds a run that was made of something else: {changed}; give another --out, or delete it to begin "
            "the phase again"
        )
    if saved is None and phase.kind in QUANTIZED and not has_ranges(checkpoint_of(started_from, out)):
        if recipe.calibration is None:
            raise InputError(f"phase {name} is quantization-aware and needs `calibration:` in the recipe")
        apply_ranges(model, ptq_ranges(model, recipe.calibration))
    model.to(device)
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        block.drop_path = phase.drop_path * index / max(1, len(model.blocks) - 1)
    optimiser = make_optimiser(model, phase)
    average = {key: value.detach().clone() for key, value in model.state_dict().items()} if phase.ema else {}
    progress = Progress(0, mark, made_of=contents)
    if saved is not None:
        progress, parts = saved
        model.load_state_dict(parts["weights"])
        average = {key: value.to(device) for key, value in parts["average"].items()}
        restore_optimiser(optimiser, parts["optimiser"])
        say(f"{name}: resumes at step {progress.step} of {steps}")
    teacher = load_teacher(phase, out, device)
    weights_K = class_weights(histogram, phase.class_balance)
    weights_K = None if weights_K is None else weights_K.to(device)
    crop = (phase.crop_height, phase.crop_width) if phase.crop_height and phase.crop_width else None
    augment = Augment(phase.augment, (recipe.model.height, recipe.model.width), crop, data_set.ignore_index)
    bf16 = _helps_bf16(recipe, device)
    say(
        f"{name}: {phase.kind}, {steps} steps of {phase.batch} from {started_from}, on {device}"
        f"{' in bf16' if bf16 else ''}, {sum(len(split) for split in splits)} samples"
    )

    plan = Plan(phase.data, [len(split) for split in splits], phase.batch, steps, recipe.seed, progress.step)
    batches = load_batches(
        Mixture(splits, Preprocess.of(recipe.model), data_set.ignore_index), plan, recipe.workers, say
    )
    clock = Clock(progress, steps)
    model.train()
    for step, (images_B3HW, labels_BHW) in enumerate(batches, start=progress.step):
        torch.manual_seed(_seed(recipe, name, step))
        model.policy.progress = step / steps if phase.kind == "sparse" else 1.0
        images_B3HW, labels_BHW = augment(images_B3HW.to(device), labels_BHW.to(device))
        set_learning_rate(optimiser, learning_rate(phase, step, steps))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            prediction = model(images_B3HW, None, labels_BHW, data_set.ignore_index)
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(images_B3HW, select_all)
        loss = cross_entropy(
            prediction.logits_BKHW, labels_BHW, data_set.ignore_index, weights_K, phase.label_smoothing
        )
        if phase.jaccard:
            loss = loss + phase.jaccard * jaccard_distance(prediction.logits_BKHW, labels_BHW, data_set.ignore_index)
        if teacher is not None:
            if phase.distill:  # a teacher of other classes has nothing to say here
                loss = loss + phase.distill * distance_to_teacher(prediction.logits_BKHW, taught.logits_BKHW)
            if phase.distill_tokens:
                loss = loss + phase.distill_tokens * distance_to_tokens(prediction.x_BND, taught.x_BND)
        loss = loss + prediction.masked.loss.float()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if phase.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), phase.clip)
        optimiser.step()
        _update_average(average, model, phase.ema, step)
        progress.step = step + 1
        keeps = [float(keep_BN.detach().mean()) for keep_BN in prediction.masked.keep_GBN]
        clock.tick(float(loss.detach()), sum(keeps) / len(keeps) if keeps else None)
        if not isfinite(clock.losses[-1]):
            raise RunError(
                f"{name}: the loss is {clock.losses[-1]} at step {progress.step}; set a lower lr (now {phase.lr:g}) and "
                f"begin the phase again"
            )

        last = progress.step == steps
        due = recipe.validation is not None and phase_due(progress.step, steps, recipe.validation.times)
        if due or last or clock.report_due():
            line = clock.line()
            if due and recipe.validation is not None:
                line += f", mIoU {_validate(recipe, model, average):.4f}"
            progress.history.append(clock.row(line))
            say(f"{name}: {line}")
        if not last and clock.save_due(recipe.checkpoint_seconds):
            write_progress(out / name, progress, model.state_dict(), average, optimiser)

    final = {key: value.cpu() for key, value in (average or model.state_dict()).items()}
    model.cpu().load_state_dict(final)
    card.provenance = {
        "edgeprune": __version__,
        "torch": torch.__version__,
        "phase": name,
        "start": started_from,
        "seed": recipe.seed,
        "recipe": phase.model_dump(mode="json"),
        "made_of": contents,
        "steps": steps,
        "minutes": round(progress.seconds / 60, 1),
    }
    model.eval()
    if recipe.calibration is not None and phase.kind in SPARSE:
        calib = calibrate(model, recipe.calibration, recipe.name)
        write_calib(out / f"calib-{name}.yaml", calib)
    with write_atomic(out / f"{name}.json", "history") as partial:
        partial.write_text(json.dumps(progress.history, indent=1))
    save(out / f"{name}.safetensors", card, model.state_dict())  # last: it says that the phase is done
    forget_progress(out / name)
    say(f"{name}: wrote {out / f'{name}.safetensors'}")


def _update_average(average: dict[str, Tensor], model: Segmenter, decay: float, step: int) -> None:
    """Exponential moving average of everything in the state; early on it follows faster, so the start is forgotten."""
    if not average:
        return
    decay = min(decay, (step + 1) / (step + 10))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                average[key].lerp_(value, 1 - decay)
            else:
                average[key].copy_(value)


def _validate(recipe: Recipe, model: Segmenter, average: dict[str, Tensor]) -> float:
    assert recipe.validation is not None
    spec = recipe.validation
    data_set, samples = open_validation(spec.data, spec.split, spec.include, spec.exclude)
    own = {key: value.detach().clone() for key, value in model.state_dict().items()}
    if average:
        model.load_state_dict(average)
    result = score(model, data_set, samples, spec.frames, None)
    model.load_state_dict(own)
    return result.miou


def phase_due(step: int, steps: int, times: int) -> bool:
    """Whether validation falls on this step: `times` of them, evenly, the last at the end."""
    return times > 0 and (step * times) // steps > ((step - 1) * times) // steps
