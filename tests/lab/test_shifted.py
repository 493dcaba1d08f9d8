"""What a shift of the memory is worth: on grids of embeddings that move as they are told."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune.lab.shifted import OUTSIDE, compare, distances, main
from edgeprune.model.checkpoint import save
from tests import models

GRID = (6, 8)


def scene(seed: int = 0) -> np.ndarray:
    """(Gh, Gw, D), each token far from all others."""
    return np.random.default_rng(seed).normal(0, 1, (*GRID, 16)).astype(np.float32)


def test_a_token_is_compared_with_what_was_so_many_patches_above_and_left() -> None:
    before_GGD = scene()
    now_GGD = np.roll(before_GGD, (1, -2), axis=(0, 1))
    found_GG = distances(now_GGD, before_GGD, 1, -2)
    assert (found_GG[1:, :-2] == 0).all()
    assert (found_GG[0] == OUTSIDE).all() and (found_GG[:, -2:] == OUTSIDE).all()
    assert (distances(before_GGD, before_GGD, 0, 0) == 0).all()
    assert (distances(now_GGD, before_GGD, 0, 0) > 0.5).all()


def test_a_camera_that_moves_by_whole_patches_keeps_all_but_a_border() -> None:
    first_GGD = scene()
    frames = [np.roll(first_GGD, (0, step), axis=(0, 1)) for step in range(5)]
    row = compare(frames, 1)
    assert (row.frames, row.changed, row.pays, row.moved) == (4, 1.0, 0.0, 1.0)
    assert row.shifted == pytest.approx(1 / GRID[1]) and row.shifted_pays == 1.0
    assert compare(frames, 4).shifted == pytest.approx(4 / GRID[1])


def test_a_camera_that_stands_has_nothing_to_shift() -> None:
    row = compare([scene()] * 4, 1)
    assert (row.changed, row.shifted, row.moved, row.pays) == (0.0, 0.0, 0.0, 1.0)


def test_rows_of_a_clip(tmp_path: Path) -> None:
    described = models.card()
    save(tmp_path / "model.safetensors", described, models.model(described).state_dict())
    arguments = [str(tmp_path / "model.safetensors"), "synthetic://street?seed=3&speed=100", "--frames", "18"]
    found = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "rows.csv")], catch_exceptions=False)
    assert found.exit_code == 0
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["lag"]), int(row["frames"])) for row in rows] == [(1, 17), (4, 14), (16, 2)]
    assert all(float(row["shifted"]) <= float(row["changed"]) for row in rows)
