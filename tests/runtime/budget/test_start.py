"""What is measured before the first frame, on a session whose graphs take a made-up time."""

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.budget.start import ENOUGH_S, LEAST_ROUNDS, ROUNDS, measure_costs, refuse_unmetered
from edgeprune.runtime.budget.wanted import parse_budget
from edgeprune.runtime.meters import open_meter

TAILS_MS = {"half": 20, "full": 40}


class SlowSession:
    """A trunk of 10 ms times `slow`, and tails of 20 and 40."""

    def __init__(self, slow: int = 1):
        self.slow, self.ns = slow, 0
        self.shapes: set[tuple[int, ...]] = set()

    def start(self, frame_HW3: np.ndarray) -> int:
        self.shapes.add(frame_HW3.shape)
        self.ns += 10 * self.slow * 10**6
        return 0

    def finish(self, bucket: str) -> None:
        self.ns += TAILS_MS[bucket] * self.slow * 10**6


@pytest.mark.parametrize(("slow", "rounds"), [(1, ROUNDS), (10, 4), (100, LEAST_ROUNDS)])
def test_every_graph_is_measured_in_rounds_until_it_takes_too_long(slow: int, rounds: int) -> None:
    session = SlowSession(slow)
    trunk_ms, tails_ms = measure_costs(session, ["half", "full"], (48, 64), lambda: session.ns)  # type: ignore[arg-type]
    assert trunk_ms == [10.0 * slow] * 2 * rounds
    assert tails_ms == {"half": [20.0 * slow] * rounds, "full": [40.0 * slow] * rounds}
    assert session.shapes == {(48, 64, 3)}
    assert (rounds - 1) * 80 * slow / 1000 <= ENOUGH_S or rounds == LEAST_ROUNDS


class Remembering(SlowSession):
    """Whose first frame has no state to go on from, and takes a second."""

    def finish(self, bucket: str) -> None:
        first = self.ns == 10 * 10**6
        self.ns += TAILS_MS[bucket] * 10**6 if not first else 10**9


def test_the_first_frame_of_a_memory_whose_tokens_are_all_computed_is_not_measured() -> None:
    session = Remembering()
    _, tails_ms = measure_costs(session, ["half"], (48, 64), lambda: session.ns)  # type: ignore[arg-type]
    assert set(tails_ms["half"]) == {20.0}


def test_without_a_sensor_a_budget_of_power_is_refused_with_the_reason() -> None:
    meter = open_meter("none")
    with pytest.raises(
        InputError, match=r"--budget 33ms,10W is held by .*: no energy sensor: none was asked for"
    ) as refused:
        refuse_unmetered(parse_budget("10W,33ms"), meter)
    assert "; give a budget in ms or fps; a meter at the plug is one too: --meter 'command:PROGRAM ...'" in str(
        refused.value
    )
    with pytest.raises(InputError, match=r"`edgeprune.open` are not metered.*; give a budget in ms or fps$"):
        refuse_unmetered(parse_budget("10W"), None)
    refuse_unmetered(parse_budget("33ms"), meter)
    refuse_unmetered(parse_budget("20fps"), None)
