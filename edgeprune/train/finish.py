"""What a phase leaves: calibration, history, and the checkpoint, which is last, for it says that the phase is done."""

import json
import logging
from typing import Any

import torch

from edgeprune import __version__
from edgeprune.base.files import write_atomic
from edgeprune.model.card import Card
from edgeprune.model.checkpoint import save
from edgeprune.model.network import Network
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calibrate import calibrate, write_calib
from edgeprune.train.fingerprint import choice_of
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import SPARSE
from edgeprune.train.resume import PhaseState, forget_state

logger = logging.getLogger(__name__)


def finish_phase(run: PhaseRun, card: Card, model: Network, state: PhaseState, started_from: str) -> None:
    """Calibrates and writes the model without its auxiliary heads, and forgets the state.

    Args:
        card: of the checkpoint, without its provenance.
        model: with the weights that are handed on, in evaluation mode, where it was trained; it is on the CPU after.
        state: at the end of the phase.
        started_from: what the phase began with.
    """
    recipe = run.recipe
    model.auxiliary = None
    if recipe.calibration is not None and run.phase.kind in SPARSE:
        assert isinstance(model, Segmenter)
        write_calib(run.out / f"calib-{run.name}.yaml", calibrate(model, recipe.calibration, recipe.name))
    with write_atomic(run.out / f"{run.name}.json", "history") as partial:
        partial.write_text(json.dumps(state.history, indent=1))
    provenance: dict[str, Any] = {
        "edgeprune": __version__,
        "torch": torch.__version__,
        "phase": run.name,
        "start": started_from,
        "seed": recipe.seed,
        "recipe": run.phase.model_dump(mode="json"),
        "made_of": state.made_of,
        "steps": state.step,
        "minutes": round(state.seconds / 60, 1),
    }
    if (choice := choice_of(recipe)) is not None:
        provenance |= {"validation": choice, "best": state.best}
    if state.rollback is not None:
        provenance["rollback"] = state.rollback
    card.provenance = provenance
    save(run.checkpoint, card, model.cpu().state_dict())
    forget_state(run.state_folder)
    logger.info(f"{run.name}: wrote {run.checkpoint}")
