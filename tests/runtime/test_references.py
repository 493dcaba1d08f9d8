"""An engine's answers are compared with those of the same precision and bucket."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle.references import reference_name
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.references import agreement_of
from edgeprune.runtime.tasks import TASKS, Agreement
from edgeprune.runtime.tasks.semantic import Semantic
from tests import bundles
from tests.runtime.test_precision_choice import spoil


def test_each_bucket_is_held_against_its_own_precision(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny")
    spoil(bundle, "int8/quarter")
    session = ENGINES["onnxruntime"].open(bundle, "fp32")
    assert agreement_of(session, bundle, "fp32") == dict.fromkeys(bundles.BUCKETS, 1)
    assert agreement_of(session, bundle, "int8") == dict.fromkeys(bundles.BUCKETS, 1) | {"quarter": 0}
    assert agreement_of(session, bundle, "int8", ["quarter"]) == {"quarter": 0}


def test_a_task_may_answer_with_several_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """References of each output, and a task that compares them all; a name that is missing is said."""

    class Things(Semantic):
        @staticmethod
        def agreement(expected: Outputs, got: Outputs, sure: Any = None) -> Agreement:
            return Agreement(sum(np.array_equal(expected[name], got[name]) for name in expected), len(expected))

    bundle = bundles.write_bundle(tmp_path / "tiny")
    bundle = bundle.seen_with(task="things", outputs=["labels", "boxes"])
    monkeypatch.setitem(TASKS, "things", Things)
    session = ENGINES["onnxruntime"].open(bundle, "fp32")
    finish, boxes = session.finish, np.arange(8.0)
    monkeypatch.setattr(session, "finish", lambda bucket: {**finish(bucket), "boxes": boxes})
    with pytest.raises(InputError, match="fp32/quarter/boxes is not there, expected 1 frames"):
        agreement_of(session, bundle, "fp32")
    path = bundle.path(bundle.manifest.references)
    with np.load(path) as references:
        content = dict(references)
    names = [(precision, bucket) for precision in ("fp32", "int8") for bucket in bundles.BUCKETS]
    content |= {reference_name(*name, "boxes"): boxes[None] for name in names}
    np.savez(path, **content)
    assert agreement_of(session, bundle, "fp32") == dict.fromkeys(bundles.BUCKETS, 1)
    boxes = boxes + 1
    assert agreement_of(session, bundle, "fp32", ["half"]) == {"half": 0.5}
