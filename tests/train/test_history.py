"""Rows of a phase's history, and what is read from the device for them."""

import pytest
import torch

from edgeprune.train.history import History


def added(history: History, loss: float, *keep: float) -> History:
    history.add(torch.tensor([loss]), torch.tensor([keep]))
    return history


def test_a_row_has_the_mean_loss_since_the_row_before_and_what_was_kept_last() -> None:
    history = added(added(History(5, 10, 100.0), 2.0, 0.5, 0.7), 4.0, 0.25, 0.5)
    row = history.row(1e-3, {"miou": 0.12345})
    assert (row.step, row.loss, row.keep, row.lr, row.scores) == (7, 3.0, 0.375, 1e-3, {"miou": 0.12345})
    assert row.seconds >= 100.0  # it counts on from where the phase stood
    assert history.line(row).startswith("step 7/10, loss 3.000, keep 0.38, ")
    assert history.line(row).endswith(" min left, miou 0.1235")
    assert added(history, 8.0, 0.5, 0.5).row(1e-3, {}).loss == 8.0


def test_a_row_as_json_has_no_keys_without_a_value() -> None:
    row = added(History(0, 10, 0.0), 2.0).row(1e-3, {})
    assert row.keep is None and row.as_json().keys() == {"step", "loss", "lr", "seconds"}
    row = added(History(0, 10, 0.0), 2.0, 0.5).row(1e-3, {"miou": 0.5})
    assert row.as_json() == {"step": 1, "loss": 2.0, "keep": 0.5, "lr": 1e-3, "seconds": row.seconds, "miou": 0.5}


def test_values_of_several_processes_are_averaged() -> None:
    history = History(0, 10, 0.0)
    history.add(torch.tensor([1.0, 3.0]), torch.tensor([[0.25], [0.75]]))
    row = history.row(1e-3, {})
    assert (row.loss, row.keep) == (2.0, 0.5)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_found_when_losses_are_read(loss: float) -> None:
    history = added(added(History(5, 20, 0.0), 1.0), 1.0)
    history.read()
    for value in (1.0, loss, 1.0):
        added(history, value)
    with pytest.raises(FloatingPointError, match=f"the loss is {loss} at step 9"):
        history.row(1e-3, {})
