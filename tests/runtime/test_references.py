"""An engine's answers are compared with those of the same precision and bucket."""

from pathlib import Path

from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.references import agreement_of
from tests import bundles
from tests.runtime.test_precision_choice import spoil


def test_each_bucket_is_held_against_its_own_precision(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny")
    spoil(bundle, "int8/quarter")
    session = ENGINES["onnxruntime"].open(bundle, "fp32")
    assert agreement_of(session, bundle, "fp32") == dict.fromkeys(bundles.BUCKETS, 1)
    assert agreement_of(session, bundle, "int8") == dict.fromkeys(bundles.BUCKETS, 1) | {"quarter": 0}
    assert agreement_of(session, bundle, "int8", ["quarter"]) == {"quarter": 0}
