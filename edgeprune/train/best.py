"""The best of a phase's validations: whose weights it hands on, and after how many without a better one it ends.

A file of the best weights is written when they are found. The state on disk names it from when it is next saved, and the one
named before stays until then: after `kill -9` the steps since are taken again, and find it again.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from edgeprune.model.checkpoint import write_safetensors
from edgeprune.model.weight_files import read_safetensors
from edgeprune.train.recipe import Validation
from edgeprune.train.resume import PhaseState, best_file


class Best:
    """Keeps the best in `state.best`: its `step`, its scores, and the validations `since`.

    Args:
        spec: whether the best weights are kept, and the patience; None: neither.
        folder: of the phase's states.
    """

    def __init__(self, spec: Validation | None, folder: Path):
        self.keeps = spec is not None and spec.keep == "best"
        self.patience = spec.patience if spec is not None else None
        self.folder = folder

    def add(self, state: PhaseState, step: int, scores: dict[str, float], tensors: Mapping[str, Tensor]) -> bool:
        """Looks at the scores of a validation, of which the first decides.

        Args:
            tensors: the weights that were scored.

        Returns:
            whether the phase ends here.
        """
        if not self.keeps and self.patience is None:
            return False
        score = next(iter(scores.values()))
        if state.best is None or score > next(iter(state.best["scores"].values())):
            if self.keeps:
                write_safetensors(self.folder / best_file(step), "training state", dict(tensors))
            state.best = {"step": step, "scores": scores, "since": 0}
        else:
            state.best = state.best | {"since": state.best["since"] + 1}
        return self.patience is not None and state.best["since"] >= self.patience

    def weights(self, state: PhaseState) -> dict[str, Tensor] | None:
        """The best weights; None where the last ones are kept."""
        if not self.keeps or state.best is None:
            return None
        return read_safetensors(self.folder / best_file(state.best["step"]))
