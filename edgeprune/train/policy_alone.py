"""A phase of kind `policy`: a policy learns from images and labels alone what it can, and no block runs.

CTS (Lu et al., CVPR 2023) trains the CNN that says which cells hold one class apart from the ViT, and so does this. A step
costs the CNN alone, so the phase sees thousands of frames in the time in which a sparse one sees hundreds.

Shapes: B batch, H W pixels.
"""

from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Masked, TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.train.recipe import Phase


class PolicyAlone(nn.Module):
    """What is trained in place of the model: of its prediction the policy's loss is all there is."""

    def __init__(self, model: Segmenter):
        super().__init__()
        self.model = model

    def forward(self, images_B3HW: Tensor, labels_BHW: Tensor, ignore_index: int, progress: float) -> Prediction:
        """See `Network`; progress does not matter."""
        loss = self.model.policy.image_loss(self.model.view(images_B3HW, labels_BHW, ignore_index))
        nothing = images_B3HW.new_zeros(0)
        return Prediction(nothing, nothing, Masked(nothing, [], loss))


def learner(model: Network, phase: Phase) -> nn.Module:
    """What the phase runs: the model, or its policy alone, and then all else of it asks for no gradient."""
    if phase.kind != "policy":
        return model
    assert isinstance(model, Segmenter)
    part = model.policy.image_part
    assert part is not None  # `check_policy_alone`
    model.requires_grad_(False)
    part.requires_grad_(True)
    return PolicyAlone(model)


def check_policy_alone(name: str, phase: Phase, policy: TokenPolicy) -> None:
    """Refuses a phase of kind `policy` that has nothing to learn, or is told to learn from what does not run.

    Raises:
        InputError: the policy looks at no image, or the phase has a teacher, auxiliary heads or a loss of its own.
    """
    if phase.kind != "policy":
        return
    if policy.image_part is None:
        raise InputError(
            f"phase {name}: a phase of kind policy trains what looks at the image, and this policy decides from tokens; "
            "leave the phase out, or choose cts, step, cts-svit or combined with levels"
        )
    for key in ("distill", "distill_tokens", "auxiliary", "freeze", "guided"):
        if getattr(phase, key):
            raise InputError(f"phase {name}: {key}: no block runs in a phase of kind policy; take it out")
