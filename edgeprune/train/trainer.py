"""The training of one phase, dense, sparse or quantization-aware; resumable after `kill -9`.

Everything random in step s is drawn from (seed, phase, s), so a state on disk needs no generator states: a resumed run
takes the same steps as an undisturbed one.

Shapes: B batch, G decisions of the policy, H W pixels, P processes.
"""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from edgeprune import __version__
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import write_atomic
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.checkpoint import save
from edgeprune.model.segmenter import Prediction
from edgeprune.pruning.selection import select_all
from edgeprune.quantize.calibrate import calibrate, write_calib
from edgeprune.train.average import WeightAverage
from edgeprune.train.backend import Backend
from edgeprune.train.batches import Mixture, MixtureSampler, load_batches, open_mix
from edgeprune.train.fingerprint import contents_of, difference, settings_digest
from edgeprune.train.history import History
from edgeprune.train.optimiser import learning_rate, make_optimiser, set_learning_rate
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import SPARSE
from edgeprune.train.resume import (
    Parts,
    PhaseState,
    check_finite,
    forget_state,
    read_state,
    restore_optimiser,
    write_state,
)
from edgeprune.train.run_folder import write_metrics
from edgeprune.train.start import card_of, load_teacher, start_model
from edgeprune.train.tasks import make_task
from edgeprune.train.tasks.task import Targets

logger = logging.getLogger(__name__)


class Trainer:
    """One phase, from what it starts with to the checkpoint that it hands on.

    Args:
        histogram: share of each class in the phase's data.
        cache: where rendered street scenes are kept.

    Raises:
        InputError: a state on disk belongs to another recipe or was made of something else.
    """

    def __init__(self, run: PhaseRun, backend: Backend, histogram: list[float], cache: Path | None):
        self.run, self.recipe, self.phase, self.steps = run, run.recipe, run.phase, run.phase.steps
        self.backend = backend
        self.state, saved = self._find_state()
        sets, self.splits = open_mix(self.phase.data, cache)
        self.card = card_of(run, sets[0])
        resumes = saved is not None
        self.model, self.started_from = start_model(run, self.card, backend.device, resumes)
        self.optimiser: torch.optim.Optimizer = make_optimiser(self.model, self.phase)
        self.average = WeightAverage(self.model, self.phase.ema)
        if saved is not None:
            self._resume(saved)
        self.net, self.optimiser = backend.prepare(self.model, self.optimiser)
        self.teacher = load_teacher(run, backend.device)
        self.task = make_task(self.recipe, self.phase, sets[0], histogram, backend.device)
        self.history = History(self.state.step, self.steps, self.state.seconds)
        self._saved_at = time.monotonic()

    def train(self) -> None:
        """The steps that are left, then the checkpoint."""
        logger.info(
            f"{self.run.name}: {self.phase.kind}, {self.steps} steps of {self.phase.batch} from {self.started_from}, on "
            f"{self.backend}, {sum(len(split) for split in self.splits)} samples"
        )
        self.model.train()
        try:
            for step, (images_B3HW, targets) in enumerate(self._batches(), start=self.state.step):
                self.step(step, images_B3HW, targets)
                if self.backend.is_main:
                    self._after_step()
            if self.backend.is_main:
                self._finish()
        except FloatingPointError as error:
            raise RunError(
                f"{self.run.name}: {error}; set a lower lr (now {self.phase.lr:g}) and begin the phase again"
            ) from None
        self.backend.barrier()

    def step(self, step: int, images_B3HW: Tensor, targets: Targets) -> None:
        """One step of gradient descent. The host issues it and waits for nothing: no value is read from the device."""
        torch.manual_seed(self.run.seed_of(step))
        images_B3HW, targets = self.task.augment(images_B3HW, targets)
        with self.backend.autocast():
            prediction = self.net(
                images_B3HW,
                labels_BHW=self.task.labels(targets),
                ignore_index=self.task.ignore_index,
                progress=step / self.steps if self.phase.kind == "sparse" else 1.0,
            )
            taught = self._teach(images_B3HW)
        loss = self.task.loss(prediction, targets)
        if taught is not None:
            loss = loss + self.task.distance(prediction, taught)
        loss = loss + prediction.masked.loss.float()
        self.optimiser.zero_grad(set_to_none=True)
        self.backend.backward(loss)
        if self.phase.clip is not None:
            self.backend.clip(self.model.parameters(), self.phase.clip)
        set_learning_rate(self.optimiser, learning_rate(self.phase, step, self.steps))
        self.optimiser.step()
        self.average.update(self.model, step)
        keeps = [keep_BN.detach().mean() for keep_BN in prediction.masked.keep_GBN]
        keep_G = torch.stack(keeps) if keeps else loss.new_zeros(0)
        self.history.add(self.backend.gather(loss.detach()), self.backend.gather(keep_G))

    def _teach(self, images_B3HW: Tensor) -> Prediction | None:
        """What the teacher says of the images, with every token."""
        if self.teacher is None:
            return None
        with torch.no_grad():
            taught: Prediction = self.teacher(images_B3HW, select_all)
        return taught

    def _batches(self) -> Iterator[tuple[Tensor, Targets]]:
        """The batches of the steps that are left, on the device."""
        sizes, device = [len(split) for split in self.splits], self.backend.device
        sampler = MixtureSampler(
            self.phase.data, sizes, self.phase.batch, self.steps, self.recipe.seed, self.state.step
        )
        mixture = Mixture(self.splits, Preprocess.of(self.recipe.model), self.task.ignore_index)
        for images_B3HW, targets in load_batches(mixture, sampler, self.recipe.workers, device.type == "cuda"):
            yield images_B3HW.to(device, non_blocking=True), targets.to(device, non_blocking=True)

    # -------------------------------------------------------------------------------- between steps

    def _after_step(self) -> None:
        """Validates, reports and saves, each when it is due."""
        last = self.history.step == self.steps
        scores = self._validate()
        if scores or last or self.history.is_due():
            self._report(scores)
        if not last and time.monotonic() - self._saved_at > self.recipe.checkpoint_seconds:
            self._save()

    def _validate(self) -> dict[str, float]:
        """Scores of the averaged weights, where a validation falls on this step."""
        validation = self.recipe.validation
        if validation is None or not is_due(self.history.step, self.steps, validation.times):
            return {}
        with self.average.applied_to(self.model):
            return self.task.score(self.model)

    def _report(self, scores: dict[str, float]) -> None:
        row = self.history.row(learning_rate(self.phase, self.history.step - 1, self.steps), scores)
        self.state.history.append(row.as_json())
        write_metrics(self.recipe, self.run.out, self.run.name, self.state.history)
        logger.info(f"{self.run.name}: {self.history.line(row)}")

    # -------------------------------------------------------------------------------- state and checkpoint

    def _find_state(self) -> tuple[PhaseState, Parts | None]:
        """Where the phase stands: a new state, or the saved one and its tensors."""
        folder, contents = self.run.state_folder, contents_of(self.run)
        fresh = PhaseState(0, settings_digest(self.run), made_of=contents)
        found = read_state(folder, fresh.fingerprint)
        if found is None:
            return fresh, None
        if changed := difference(found[0].made_of, contents):
            raise InputError(
                f"{folder} holds a run that was made of something else: {changed}; give another --out, or delete it to begin "
                "the phase again"
            )
        return found

    def _resume(self, saved: Parts) -> None:
        self.model.load_state_dict(saved["weights"])
        self.average.restore(saved["average"])
        restore_optimiser(self.optimiser, saved["optimiser"])
        logger.info(f"{self.run.name}: resumes at step {self.state.step} of {self.steps}")

    def _save(self) -> None:
        self.history.read()  # no state is saved after a loss that was not finite
        self.state.step, self.state.seconds = self.history.step, self.history.seconds
        write_state(self.run.state_folder, self.state, self.model.state_dict(), self.average.tensors, self.optimiser)
        self._saved_at = time.monotonic()

    def _finish(self) -> None:
        """Calibrates and writes the averaged model; the checkpoint last, for it says that the phase is done."""
        run, model = self.run, self.model
        seconds = self.history.seconds
        model.load_state_dict(self.average.tensors or model.state_dict())
        model.cpu().eval()
        check_finite(model.state_dict(), self.steps)
        if self.recipe.calibration is not None and self.phase.kind in SPARSE:
            calib = calibrate(model, self.recipe.calibration, self.recipe.name)
            write_calib(run.out / f"calib-{run.name}.yaml", calib)
        with write_atomic(run.out / f"{run.name}.json", "history") as partial:
            partial.write_text(json.dumps(self.state.history, indent=1))
        self.card.provenance = {
            "edgeprune": __version__,
            "torch": torch.__version__,
            "phase": run.name,
            "start": self.started_from,
            "seed": self.recipe.seed,
            "recipe": self.phase.model_dump(mode="json"),
            "made_of": self.state.made_of,
            "steps": self.steps,
            "minutes": round(seconds / 60, 1),
        }
        save(run.checkpoint, self.card, model.state_dict())
        forget_state(run.state_folder)
        logger.info(f"{run.name}: wrote {run.checkpoint}")


def is_due(step: int, steps: int, times: int) -> bool:
    """Whether something that falls `times` times within `steps`, evenly and the last at the end, falls on this step."""
    return times > 0 and (step * times) // steps > ((step - 1) * times) // steps
