"""A choice of precisions: the fastest, held against the bundle's references before it is run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import RunError
from edgeprune.bundle import MIXED, Bundle
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.precision_choice import Choice, Measured, fastest, revert_failing_tails, say_chance
from tests import bundles


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundles.write_bundle(tmp_path / "tiny")


def tails(bundle: Bundle, **other: str) -> dict[str, str]:
    return {bucket.name: other.get(bucket.name, "int8") for bucket in bundle.manifest.buckets}


def spoil(bundle: Bundle, key: str) -> None:
    """Other labels in the references of one precision and bucket."""
    path = bundle.path(bundle.manifest.references)
    with np.load(path) as references:
        content = dict(references)
    content[key] = content[key] + 1
    np.savez_compressed(path, **content)


def choice(bundle: Bundle, **other: str) -> Choice:
    """INT8 but for some tails."""
    chosen = tails(bundle, **other)
    measured = [Measured(name, each, 1.0) for name in chosen for each in bundle.manifest.precisions]
    return Choice("int8", chosen, measured)


def test_each_tail_is_the_fastest_of_those_that_may_be_taken() -> None:
    """What the trunk gains or loses in a precision is not the tail's; equal times take what comes first."""
    times_ms = {"trunk": (4.0, 12.0), "a": (10.0, 17.0), "b": (10.0, 19.0), "c": (9.0, 17.0), "d": (5.0, 1.0)}
    measured = [
        Measured(name, each, ms)
        for name, both in times_ms.items()
        for each, ms in zip(("int8", "fp32"), both, strict=True)
    ]
    able = {"a": ["int8", "fp32"], "b": ["int8", "fp32"], "c": ["int8", "fp32"], "d": ["int8"]}
    found = fastest(measured, able, "int8")
    assert found.tails == {"a": "fp32", "b": "int8", "c": "int8", "d": "int8"} and found.run == MIXED
    assert [row["precision"] for row in found.rows() if row["chosen"]] == ["int8", "fp32", "int8", "int8", "int8"]
    assert fastest(measured, {"d": ["int8"]}, "int8").run == "int8"


@pytest.mark.parametrize(
    ("timings", "line"),
    [
        ({"a": (10, 1), "b": (12, 1), "full": (15, 1)}, None),
        ({"a": (10, 1), "b": (16, 1.5), "full": (15, 1)}, None),  # within the spread
        (
            {"a": (10, 1), "b": (18, 1), "full": (15, 1)},
            "b in int8 took 18.0 ms and full in int8, which is larger, 15.0: precisions may be chosen by chance; type it "
            "again when nothing else runs",
        ),
        (
            {"a": (10, 3), "b": (12, 6), "full": (15, 1)},
            "timings of b in int8 scatter by 6.0 ms around 12.0: precisions may be chosen by chance; type it again when "
            "nothing else runs",
        ),
        ({"trunk": (20, 20), "a": (10, 1), "full": (None, 0)}, None),
    ],
)
def test_a_choice_that_may_be_chance_is_said(timings: dict[str, Any], line: str | None, said: list[str]) -> None:
    measured = [
        Measured(name, each, ms and ms * slower, spread_ms=spread_ms * slower)
        for name, (ms, spread_ms) in timings.items()
        for each, slower in (("int8", 1), ("fp32", 2))
    ]
    say_chance(measured, "type it again")
    assert said == ([line] if line else [])


def test_the_graph_set_of_a_choice(bundle: Bundle) -> None:
    built = bundle.manifest.graphs
    mixed = choice(bundle, half="fp32")
    assert mixed.run == MIXED and list(mixed.graphs(built)) == [*built, MIXED]
    found = mixed.graphs(built)[MIXED]
    assert found.trunk == built["int8"].trunk
    assert found.tails == built["int8"].tails | {"half": built["fp32"].tails["half"]}
    assert choice(bundle).run == "int8" and choice(bundle).graphs(built) == built


def test_a_mixture_that_answers_is_kept(bundle: Bundle, said: list[str]) -> None:
    before = choice(bundle, quarter="fp32")
    assert revert_failing_tails(bundle, ENGINES["onnxruntime"], before) == before and not said
    assert MIXED not in bundle.manifest.graphs


def test_a_tail_that_does_not_answer_takes_the_trunks_precision(bundle: Bundle, said: list[str]) -> None:
    first, second = (bucket.name for bucket in bundle.manifest.buckets[:2])
    spoil(bundle, f"fp32/{first}")
    said.clear()
    before = choice(bundle, **{first: "fp32", second: "fp32"})
    after = revert_failing_tails(bundle, ENGINES["onnxruntime"], before)
    assert (after.trunk, after.tails) == ("int8", tails(bundle, **{second: "fp32"}))
    assert before.tails == tails(bundle, **{first: "fp32", second: "fp32"})
    assert len(said) == 1 and said[0].startswith(f"{first}: fp32 behind a trunk in int8 gives 0.00% equal labels")


def test_a_precision_beyond_the_accuracy_limit_is_no_way_out(bundle: Bundle) -> None:
    first = bundle.manifest.buckets[0].name
    spoil(bundle, f"fp32/{first}")
    before = choice(bundle, **{first: "fp32"})
    before = replace(before, measured=[replace(each, loss_points=0.9) for each in before.measured])
    with pytest.raises(RunError, match=f"{first}: fp32 behind a trunk in int8 .* int8 itself loses 0.90 points"):
        revert_failing_tails(bundle, ENGINES["onnxruntime"], before)


def test_one_precision_throughout_is_not_opened_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ENGINES["onnxruntime"]
    monkeypatch.setattr(engine, "open", None)
    assert revert_failing_tails(bundle, engine, choice(bundle)) == choice(bundle)
