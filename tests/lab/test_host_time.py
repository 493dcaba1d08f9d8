"""What the host takes for things."""

import numpy as np

from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.host_time import INPUT, measure, random_answer
from edgeprune.runtime.tasks.things import read_things


def test_so_many_things_as_are_asked_for() -> None:
    outputs = random_answer(7, np.random.default_rng(0))
    assert len(outputs["scores"]) == 100 and (np.diff(outputs["scores"]) <= 0).all()
    found = read_things(outputs, [f"class{index}" for index in range(8)], Preprocess(*INPUT), (48, 64), 0.5)
    assert 5 <= len(found) <= 7  # one may lie beside the frame


def test_a_row_for_each_step() -> None:
    rows = measure(3, (48, 64), frames=3)
    assert [row["step"] for row in rows] == ["read", "enlarge", "json", "read and enlarge"]
    assert all(0 < row["p50"] <= row["p95"] for row in rows)
