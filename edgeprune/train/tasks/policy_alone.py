"""The semantic task of a phase of kind `policy`, where no network answers.

Shapes: B batch, H W pixels.
"""

from torch import Tensor

from edgeprune.model.network import Prediction
from edgeprune.train.tasks.semantic import Semantic


class LabelsForPolicy(Semantic):
    """Gives labels to the policy, whose own loss is all that the phase learns from."""

    def loss(self, prediction: Prediction, labels_BHW: Tensor) -> Tensor:
        """0: there are no logits."""
        return prediction.masked.loss.new_zeros(())
