"""What a policy decides on a frame, and what the model says of it, in one call."""

from edgeprune.model.network import Network
from edgeprune.pruning.one_frame import label_map_of, predict, selection_of
from edgeprune.pruning.token_pictures import Selection
from edgeprune.runtime.engines.engine import UInt8


def select_tokens(model: Network, frame_HW3: UInt8) -> tuple[Selection, UInt8]:
    """The decisions at the target ratios, and the label map at the label stride."""
    prediction = predict(model, frame_HW3, None)
    return selection_of(model, prediction.masked), label_map_of(model, prediction.raw)
