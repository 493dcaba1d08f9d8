"""The training of one phase, dense, sparse or quantization-aware; resumable after `kill -9`.

Everything random in step s is drawn from (seed, phase, s, process), so a state on disk needs no generator states: a resumed
run takes the same steps as an undisturbed one.

Shapes: B batch, G decisions of the policy, H W pixels, P processes, A parts of a batch that are accumulated.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from edgeprune.base.errors import InputError, RunError
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.global_batch import part_of_step
from edgeprune.model.network import Network
from edgeprune.train.average import WeightAverage
from edgeprune.train.backend import Backend
from edgeprune.train.batches import Mixture, MixtureSampler, OwnParts, load_batches, open_mix, to_device
from edgeprune.train.best import Best
from edgeprune.train.divergence import LossWatch
from edgeprune.train.fingerprint import contents_of, difference, settings_digest
from edgeprune.train.finish import finish_phase
from edgeprune.train.frames_before import Seen, is_remembered, see
from edgeprune.train.frozen import begin_training
from edgeprune.train.history import History
from edgeprune.train.optimiser import learning_rate, make_optimiser, set_learning_rate
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.policy_alone import learner
from edgeprune.train.resume import (
    Parts,
    PhaseState,
    check_finite,
    read_state,
    restore_optimiser,
    state_tensors,
    write_state,
)
from edgeprune.train.run_folder import write_metrics
from edgeprune.train.start import card_of, start_model
from edgeprune.train.tasks import make_task, reads_things
from edgeprune.train.tasks.task import Targets
from edgeprune.train.teachers import load_teachers
from edgeprune.train.tensorboard import EventFile

logger = logging.getLogger(__name__)

# the parts of a batch that one process has: images (B, 3, H, W), or with those before them (B, 2, 3, H, W), and targets of each
Batch = list[tuple[Tensor, Targets]]
ROLLBACK_RATE = 0.5  # what the learning rate is multiplied by after a rollback


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
        sets, self.splits = open_mix(self.phase.data, cache, self.recipe.held_out, reads_things(run.recipe, run.phase))
        self.card = card_of(run, sets[0])
        self.model, self.started_from = self._start(resumes=saved is not None)
        net = learner(self.model, self.phase)
        self.optimiser: torch.optim.Optimizer = make_optimiser(self.model, self.phase)
        self.average = WeightAverage(self.model, self.phase.ema)
        self.history, self.events = self._begin_history(), EventFile(run, self.state.step)
        if saved is not None:
            self._restore(saved)
            logger.info(f"{self.run.name}: resumes at step {self.state.step} of {self.steps}")
        self.net, self.optimiser = backend.prepare(net, self.optimiser)
        self.teachers = load_teachers(run, backend.device)
        self.task = make_task(self.recipe, self.phase, sets[0], histogram, backend.device)
        self.best = Best(self.recipe.validation, run.state_folder)
        self._saved_at = time.monotonic()

    def train(self) -> None:
        """The steps that are left, then the checkpoint. What is not finite, or diverges, is tried again once (`_roll_back`)."""
        logger.info(
            f"{self.run.name}: {self.phase.kind}, {self.steps} steps of {self.phase.batch} from {self.started_from}, on "
            f"{self.backend}, {sum(len(split) for split in self.splits)} samples"
        )
        while True:
            try:
                self._take_steps()
                return self._finish()
            except FloatingPointError as error:
                self._roll_back(str(error))

    def _take_steps(self) -> None:
        begin_training(self.model, self.phase.freeze)
        for step, batch in enumerate(self._batches(), start=self.state.step):
            self.step(step, batch)
            if self._after_step():
                break

    def step(self, step: int, batch: Batch) -> None:
        """One step of gradient descent. The host issues it and waits for nothing: no value is read from the device, but by a
        task that learns things, which are matched on the host, and where tokens that changed are counted (`remember`)."""
        torch.manual_seed(self.run.seed_of(step, self.backend.index))
        self.task.before_step(self.model, step / self.steps)
        seen = [see(self.task, *part, is_remembered(self.run, step)) for part in batch]
        self.optimiser.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        keeps: list[Tensor] = []
        for part, (each, share) in enumerate(zip(seen, self._shares(seen), strict=True), start=1):
            with self.backend.accumulating(self.net, last=part == len(seen)), part_of_step(part - 1, len(seen)):
                with self.backend.autocast():
                    prediction = self.net(
                        each.images_B3HW,
                        labels_BHW=self.task.labels(each.targets),
                        ignore_index=self.task.ignore_index,
                        progress=step / self.steps if self.phase.kind == "sparse" else 1.0,
                        **each.beside,
                    )
                    taught = self.teachers.teach(each.images_B3HW)
                loss = (share * self.task.loss(prediction, each.targets)).sum()
                if taught is not None:
                    loss = loss + self.task.distance(prediction, taught)
                loss = loss + prediction.masked.loss.float()
                self.backend.backward(loss / len(seen))
            losses.append(loss.detach())
            keeps += [keep_BN.detach().mean() for keep_BN in prediction.masked.keep_GBN]
        if self.phase.clip is not None:
            self.backend.clip(self.model.parameters(), self.phase.clip)
        set_learning_rate(self.optimiser, self._rate(step))
        self.optimiser.step()
        self.average.update(self.model, step)
        keep_AG = torch.stack(keeps) if keeps else losses[0].new_zeros(0)
        self.history.add(self.backend.gather(torch.stack(losses).mean()), self.backend.gather(keep_AG))

    def _shares(self, seen: Sequence[Seen]) -> Tensor:
        """What each part's loss counts for, (A,), with a mean of 1 over all parts of all processes: the more of its targets
        there is to learn, the more. A mean over labelled pixels is then one over those of the whole batch. Where a task counts
        for each of its terms, so it is of each: (A, terms)."""
        counted_A = torch.stack([self.task.counted(each.targets) for each in seen])
        return counted_A / self.backend.gather(counted_A).mean((0, 1)).clamp_min(1e-6)

    def _rate(self, step: int) -> float:
        return self.state.rate * learning_rate(self.phase, step, self.steps)

    def _batches(self) -> Iterator[Batch]:
        """This process's share of the batches of the steps that are left, on the device."""
        sizes, device, accumulate = [len(split) for split in self.splits], self.backend.device, self.phase.accumulate
        sampler = MixtureSampler(
            self.phase.data, sizes, self.phase.batch, self.steps, self.recipe.seed, self.state.step
        )
        own = OwnParts(sampler, accumulate, self.backend.index, self.backend.processes)
        before = [mix.before for mix in self.phase.data] if self.phase.remember else None
        mixture = Mixture(
            self.splits, Preprocess.of(self.recipe.model), self.task.ignore_index, self.task.things, before
        )
        loaded = load_batches(mixture, own, self.recipe.workers, device.type == "cuda")
        while parts := list(islice(loaded, accumulate)):
            yield [(to_device(frames, device), to_device(targets, device)) for frames, targets in parts]

    def _start(self, resumes: bool) -> tuple[Network, str]:
        """What is trained, on the device, with the weights that the phase begins with; and where these are from."""
        return start_model(self.run, self.card, self.backend.device, resumes)

    # -------------------------------------------------------------------------------- between steps

    def _after_step(self) -> bool:
        """Validates, reports and saves, each when it is due. The main process's clock says when; all processes look at the
        losses and weights then, which are the same everywhere, so that what is wrong with them ends this step in each.

        Returns:
            whether the phase ends early.
        """
        validates, reports, saves = self.backend.from_main(self._due)
        if reports or saves:
            self.history.read()  # no state is saved after a loss that was not finite
        scores, ends = self.backend.from_main(self._validate) if validates else ({}, False)
        if reports:
            self._report(scores)
        if saves and not ends:
            self._save()
        return ends

    def _due(self) -> tuple[bool, bool, bool]:
        """Whether to validate, to report, to save."""
        last, validation = self.history.step == self.steps, self.recipe.validation
        validates = validation is not None and is_due(self.history.step, self.steps, validation.times)
        reports = validates or last or self.history.is_due()
        return validates, reports, not last and time.monotonic() - self._saved_at > self.recipe.checkpoint_seconds

    def _validate(self) -> tuple[dict[str, float], bool]:
        """Scores of the averaged weights, and whether they are reason to end the phase; in the main process alone."""
        with self.average.applied_to(self.model):
            scores = self.task.score(self.model)
        ends = self.best.add(self.state, self.history.step, scores, self._handed_on())
        if ends:
            why = f"none of the last {self.best.patience} validations was the best"
            logger.info(f"{self.run.name}: ends at step {self.history.step} of {self.steps}: {why}")
        return scores, ends

    def _report(self, scores: dict[str, float]) -> None:
        row = self.history.row(self._rate(self.history.step - 1), scores)
        self.state.add_row(row.as_json())
        if self.backend.index == 0:
            write_metrics(self.recipe, self.run.out, self.run.name, self.state.history)
            self.events.add(row.as_json())
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

    def _begin_history(self) -> History:
        return History(self.state.step, self.steps, self.state.seconds, LossWatch(**self.state.watch))

    def _restore(self, saved: Parts) -> None:
        self.model.load_state_dict(saved["weights"])
        self.average.restore(saved["average"])
        restore_optimiser(self.optimiser, saved["optimiser"])

    def _handed_on(self) -> Mapping[str, Tensor]:
        """The weights that are validated and handed on."""
        return self.average.tensors or self.model.state_dict()

    def _keep_state(self) -> None:
        self.state.step, self.state.seconds = self.history.step, self.history.seconds
        self.state.watch = asdict(self.history.watch)

    def _save(self) -> None:
        self._keep_state()
        tensors = state_tensors(self.model.state_dict(), self.average.tensors, self.optimiser)
        check_finite(tensors, self.state.step)
        if self.backend.index == 0:
            write_state(self.run.state_folder, self.state, tensors)
        self._saved_at = time.monotonic()

    def _roll_back(self, why: str) -> None:
        """Goes on from the last state on disk, or from the start of the phase, with half the rate: once, which is written
        to the state.

        Raises:
            RunError: it is the second time.
        """
        lower = f"set a lower lr (now {self.phase.lr:g}) and begin the phase again"
        if self.state.rollback is not None:
            raise RunError(f"{self.run.name}: {why}; {lower}")
        found_at = self.history.step
        self.backend.barrier()  # no state is read that is being written
        self.state, saved = self._find_state()
        if saved is None:
            start, _ = self._start(resumes=False)
            weights = start.state_dict()
            saved = {"weights": weights, "average": weights if self.average.tensors else {}, "optimiser": {}}
        self.state.rollback = {"from": found_at, "to": self.state.step, "why": why, "rate": ROLLBACK_RATE}
        logger.warning(
            f"{self.run.name}: {why}; goes on from step {self.state.step} with half the learning rate, this once"
        )
        self._restore(saved)
        self.events.close()
        self.history, self.events = self._begin_history(), EventFile(self.run, self.state.step)
        self.backend.barrier()  # every process has read it
        self._save()

    def _finish(self) -> None:
        """Hands on the averaged weights, or the best of them."""
        weights = self._handed_on()
        check_finite(weights, self.history.step)
        self.events.close()
        if self.backend.index == 0:
            self._keep_state()
            self.model.load_state_dict(self.best.weights(self.state) or weights)
            self.model.eval()
            finish_phase(self.run, self.card, self.model, self.state, self.started_from)
        self.backend.barrier()


def is_due(step: int, steps: int, times: int) -> bool:
    """Whether something that falls `times` times within `steps`, evenly and the last at the end, falls on this step."""
    return times > 0 and (step * times) // steps > ((step - 1) * times) // steps
