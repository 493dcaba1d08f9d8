"""A choice of precisions is held against the bundle's references before it is run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import RunError
from edgeprune.bundle import MIXED, Bundle
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.references import agreement_of, chosen_of, hold_mixed
from tests import bundles


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundles.write_bundle(tmp_path / "tiny")


def rows(bundle: Bundle, trunk: str, tails: dict[str, str]) -> list[dict[str, Any]]:
    chosen = {"trunk": trunk, **tails}
    return [
        {"bucket": bucket, "precision": each, "chosen": each == precision}
        for bucket, precision in chosen.items()
        for each in bundle.manifest.precisions
    ]


def tails(bundle: Bundle, **other: str) -> dict[str, str]:
    return {bucket.name: other.get(bucket.name, "int8") for bucket in bundle.manifest.buckets}


def spoil(bundle: Bundle, key: str) -> None:
    """Other labels in the references of one precision and bucket."""
    path = bundle.path(bundle.manifest.references)
    with np.load(path) as references:
        content = dict(references)
    content[key] = content[key] + 1
    np.savez_compressed(path, **content)


def test_a_mixture_that_answers_is_kept(bundle: Bundle) -> None:
    name = bundle.manifest.buckets[0].name
    said: list[str] = []
    table = rows(bundle, "int8", tails(bundle, **{name: "fp32"}))
    before = dict(bundle.manifest.graphs)
    hold_mixed(bundle, ENGINES["onnxruntime"], table, said.append)
    assert chosen_of(table) == ("int8", tails(bundle, **{name: "fp32"})) and not said
    assert bundle.manifest.graphs == before


def test_a_tail_that_does_not_answer_takes_the_trunks_precision(bundle: Bundle) -> None:
    first, second = (bucket.name for bucket in bundle.manifest.buckets[:2])
    spoil(bundle, f"fp32/{first}")
    said: list[str] = []
    table = rows(bundle, "int8", tails(bundle, **{first: "fp32", second: "fp32"}))
    hold_mixed(bundle, ENGINES["onnxruntime"], table, said.append)
    assert chosen_of(table) == ("int8", tails(bundle, **{second: "fp32"}))
    assert len(said) == 1 and said[0].startswith(f"{first}: fp32 behind a trunk in int8 gives 0.00% equal labels")


def test_a_precision_beyond_the_accuracy_limit_is_no_way_out(bundle: Bundle) -> None:
    first = bundle.manifest.buckets[0].name
    spoil(bundle, f"fp32/{first}")
    table = [row | {"loss_points": 0.9} for row in rows(bundle, "int8", tails(bundle, **{first: "fp32"}))]
    with pytest.raises(RunError, match=f"{first}: fp32 behind a trunk in int8 .* int8 itself loses 0.90 points"):
        hold_mixed(bundle, ENGINES["onnxruntime"], table, print)


def test_one_precision_throughout_is_not_opened_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ENGINES["onnxruntime"]
    monkeypatch.setattr(engine, "open", None)
    table = rows(bundle, "int8", tails(bundle))
    hold_mixed(bundle, engine, table, print)
    assert chosen_of(table) == ("int8", tails(bundle))


def test_each_bucket_is_held_against_its_own_precision(bundle: Bundle) -> None:
    name = bundle.manifest.buckets[0].name
    spoil(bundle, f"int8/{name}")
    session = ENGINES["onnxruntime"].open(bundle, "fp32")
    assert agreement_of(session, bundle, tails(bundle, **{name: "fp32"}))[name] == 1
    assert agreement_of(session, bundle, tails(bundle))[name] == 0
    assert MIXED not in bundle.manifest.graphs
