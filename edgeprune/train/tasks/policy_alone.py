"""The semantic task of a phase of kind `policy`, where no network answers.

Shapes: B batch, H W pixels.
"""

from torch import Tensor

from edgeprune.model.network import Network, Prediction
from edgeprune.train.tasks.semantic import Semantic
from edgeprune.train.tasks.task import Task


class LabelsForPolicy(Semantic):
    """Gives labels to the policy, whose own loss is all that the phase learns from.

    Attributes:
        of_model: the task of the recipe's model, by which it is scored.
    """

    of_model: Task

    def loss(self, prediction: Prediction, labels_BHW: Tensor) -> Tensor:
        """0: there are no logits."""
        return prediction.masked.loss.new_zeros(())

    def score(self, model: Network) -> dict[str, float]:
        return self.of_model.score(model)
