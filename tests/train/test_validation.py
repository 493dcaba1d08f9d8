"""The score that training prints against the one that is reported."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.metrics import Scores
from edgeprune.pruning.one_frame import outputs_of, predict
from edgeprune.pruning.selection import select_top
from edgeprune.train.recipe import Validation
from edgeprune.train.tasks.semantic import Semantic
from edgeprune.train.validation import open_validation, score
from tests import models
from tests.export import instances


def test_validation_scores_what_numpy_scores(tmp_path: Path) -> None:
    """mIoU by torchmetrics against the confusion matrix that the reported figures use."""
    model = models.model()
    data_set, samples = open_validation(Validation(data=models.write_street(tmp_path)))
    data_set.things = ["pole", "car"]
    assert score(model, data_set, samples, None, None, batch=3).boundary_f is None
    result = score(model, data_set, samples, None, None, batch=3, boundaries=True)
    size = (models.HEIGHT, models.WIDTH)
    matrix, reported = ConfusionMatrix(11, 11), Scores(data_set.names, 11, size, data_set.things)
    select = select_top(model.policy.schedule.target_candidates)
    for sample in samples:
        image_13HW = torch.from_numpy(sample.image_HW3.copy()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            classes_HW = model(image_13HW, select).raw.argmax(1)[0].numpy().astype(np.uint8)
        matrix.update(np.kron(classes_HW, np.ones((2, 2), np.uint8)), sample.label_HW)
        reported.update(classes_HW, sample.label_HW)
    assert result.boundary_f == pytest.approx(reported.result()["boundary_f"])
    assert result.small_things_miou == reported.result()["small_things_miou"] is not None
    assert result.miou == pytest.approx(matrix.miou, abs=1e-6)
    assert result.per_class == pytest.approx(matrix.per_class_iou.tolist(), abs=1e-6, nan_ok=True)
    assert result.tokens == pytest.approx(
        model.policy.schedule.relative_token_layers(model.policy.schedule.target_shares), abs=1 / models.N
    )


def test_a_model_of_things_has_no_miou(tmp_path: Path) -> None:
    data_set, samples = open_validation(Validation(data=models.write_street(tmp_path)))
    with pytest.raises(InputError, match="mIoU is of classes of pixels, and the model's task is instance; score it by"):
        score(instances.model(), data_set, samples, 1, None)


def test_label_maps_of_graphs_are_scored_as_the_network_is(tmp_path: Path) -> None:
    """At the input's size, of frames of another one too."""
    model = models.model()
    data_set, samples = open_validation(Validation(data=models.write_street(tmp_path)))
    scores = Semantic.scores(Preprocess.of(model.spec), data_set)
    turned = [Sample(each.name, each.image_HW3.swapaxes(0, 1), each.label_HW.swapaxes(0, 1)) for each in samples]
    for sample in (*samples, *turned):
        frame_HW3 = Preprocess.of(model.spec).fit(np.ascontiguousarray(sample.image_HW3))
        raw = predict(model, frame_HW3, None).raw
        scores.add(outputs_of(model.head, raw), sample)
    both = Listed([*samples, *turned])
    assert scores.result()["miou"] == pytest.approx(score(model, data_set, both, None, None).miou, abs=1e-6)


class Listed(list[Sample]):
    """Samples of a list."""

    @property
    def names(self) -> list[str]:
        return [each.name for each in self]

    def origin(self, index: int) -> str:
        return self[index].name
