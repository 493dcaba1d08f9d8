"""What a folder was found to be: the content of the YAML that says the same, and why."""

from dataclasses import dataclass, field, replace
from typing import Any

Content = dict[str, Any]  # as the YAML of a data set has it
TRAIN_PART, VAL_PART = (0.0, 0.75), (0.8, 1.0)  # of one pool in the order of its names; what is between is left out


@dataclass(frozen=True)
class Found:
    """A layout's answer.

    Attributes:
        why: what it was recognised by, as half a sentence.
        splits: `train`, `val`, `test`, as the YAML has them.
        classes: `names`, and `ids`, `palette` where they are needed.
        notes: what was guessed, a sentence each.
    """

    why: str
    splits: dict[str, Content]
    classes: Content
    notes: list[str] = field(default_factory=list)

    def divided(self, share: float | None = None) -> "Found":
        """With a val where there is none: the end of train, in the order of its names, with a gap before it.

        Args:
            share: of the frames that train (and the gap, a twentieth) has.
        """
        if "val" in self.splits:
            return self
        pool = self.splits.get("train") or next(iter(self.splits.values()))
        begin = VAL_PART[0] if share is None else share
        end = round(max(begin - (VAL_PART[0] - TRAIN_PART[1]), begin / 2), 4)
        splits = {"train": pool | {"part": [0.0, end]}, "val": pool | {"part": [begin, 1.0]}}
        splits |= {"test": self.splits["test"]} if "test" in self.splits and "train" in self.splits else {}
        note = (
            f"there is no val, so the last {1 - begin:.0%} of the images by their names are val, and the {begin - end:.0%} "
            "before them are left out, for neighbours in a video are all but equal"
        )
        return replace(self, splits=splits, notes=[*self.notes, note])
