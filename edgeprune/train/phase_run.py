"""One phase of a recipe, and the folder in which its run finds and leaves checkpoints."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgeprune.train.checkpoint_file import file_named, names_file
from edgeprune.train.recipe import SUFFIX, Phase, Recipe


@dataclass(frozen=True)
class PhaseRun:
    """The phase `name` of a recipe. `out` gets its `<name>.safetensors`, `<name>.json` (history) and `calib-<name>.yaml`,
    and has the checkpoints of the phases before.

    Attributes:
        network: what is trained, as `Card.network` names it; None: a ViT.
    """

    recipe: Recipe
    name: str
    out: Path
    network: str | None = None

    @property
    def phase(self) -> Phase:
        return self.recipe.phases[self.name]

    @property
    def start(self) -> str | None:
        """An earlier phase or a checkpoint; None where it is the recipe's `weights`, or nothing."""
        return self.recipe.start_of(self.name)

    @property
    def checkpoint(self) -> Path:
        return self.checkpoint_of(self.name)

    @property
    def is_done(self) -> bool:
        return self.checkpoint.is_file()

    @property
    def state_folder(self) -> Path:
        """Where the phase keeps what it resumes from, until its checkpoint is written."""
        return self.out / self.name

    def checkpoint_of(self, name: str) -> Path:
        """The checkpoint that `start` or one of `teacher` names: of a phase in `out`, or a file of its own."""
        return file_named(name) if names_file(name) else self.out / f"{name}{SUFFIX}"

    def seed_of(self, step: int, process: int = 0) -> int:
        """The seed of everything random that a process draws in a step, and of an untrained model for step -1."""
        digest = hashlib.sha256(f"{self.recipe.seed}/{self.name}/{step}".encode()).digest()
        return int.from_bytes(digest[:7], "little") + process
