"""What trained models promise of their buckets: a larger one is no further from the dense answer. On the shipped weights and
frames of the street, which they have not seen."""

from pathlib import Path

import pytest
import torch

from edgeprune import street as synthetic
from edgeprune.base.reading import ROOT
from edgeprune.bundle.target import load_target
from edgeprune.export.family import place_buckets
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.loading import load

FRAMES = 8
CALIB = Path(__file__).parents[2] / "calib"


@pytest.mark.parametrize(("weights", "calib"), [("qat", "street-tiny"), ("svit", "street-tiny-svit")])
def test_the_mean_distance_to_dense_does_not_grow_with_the_bucket(weights: str, calib: str) -> None:
    """The squared distance of the logits from those of every token, as a share of their mean square."""
    model, _ = load(ROOT / "zoo" / "street-tiny" / f"{weights}.safetensors")
    model.eval()
    torch.set_num_threads(1)  # tests run side by side
    occupancy_FG = read_calib(CALIB / f"{calib}.yaml").occupancy["int8"]
    buckets = place_buckets(model.policy.schedule, load_target("onnx-cpu").buckets, occupancy_FG)
    distance_FB = torch.zeros(FRAMES, len(buckets))
    with torch.no_grad():
        for frame in range(FRAMES):
            image_HW3 = torch.from_numpy(synthetic.scene(9000 + frame, model.spec.height, model.spec.width)[0])
            x_ND, skips, scores_S = model.trunk(image_HW3)
            dense_1KHW = model.tail(x_ND, skips, scores_S, buckets[-1].counts)
            for index, bucket in enumerate(buckets[:-1]):  # the last is dense
                away_1KHW = model.tail(x_ND, skips, scores_S, bucket.counts) - dense_1KHW
                distance_FB[frame, index] = away_1KHW.square().mean() / dense_1KHW.square().mean()
    distances = distance_FB.mean(0).tolist()
    assert len(buckets) >= 4 and distances[0] > 1e-3
    assert distances == sorted(distances, reverse=True)
