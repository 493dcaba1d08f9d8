"""Pictures of what a phase has learnt: frames of its validation with their labels, what the model says, and the tokens.

Shapes: H W pixels.
"""

import numpy as np
from PIL import Image

from edgeprune.base.files import write_atomic
from edgeprune.data import spread
from edgeprune.data.instances import Instances
from edgeprune.data.panel_grid import PanelGrid
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.card import Card
from edgeprune.model.network import Network
from edgeprune.pruning.found_picture import draw_found
from edgeprune.pruning.one_frame import predict, selection_of
from edgeprune.pruning.token_pictures import Bool, draw_heat, outline_of, outlined
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.calibrate import model_thresholds
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.tasks.overlay import Overlay
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.tasks import find_task
from edgeprune.train.tensorboard import add_picture
from edgeprune.train.validation import open_validation

FRAMES = 3
PANEL_PX = 420  # width of a picture in the sheet
GAP_PX = 6


def draw_samples(run: PhaseRun, model: Network, card: Card) -> None:
    """Writes `samples-<phase>.png` of a phase that is done: a row for each of a few validation frames, with its labels (things
    outlined), what the model finds, and how many blocks each token went through. Nothing where the recipe validates on nothing.

    Args:
        model: as the phase handed it on, on the CPU.
    """
    spec = run.recipe.validation
    if spec is None:
        return
    data_set, samples = open_validation(spec, find_task(run.recipe).things)
    calib = run.out / f"calib-{run.name}.yaml"
    thresholds = model_thresholds(model, read_calib(calib)) if calib.is_file() else None
    overlay, fit = Overlay(card.names, card.palette), Preprocess.of(model.spec)
    rows = []
    for index in spread(len(samples), FRAMES):
        sample = fit.fit_sample(samples[index], data_set.ignore_index)
        image_HW3, label_HW = np.asarray(sample.image_HW3), np.asarray(sample.label_HW, np.uint8)
        prediction = predict(model, image_HW3, thresholds)
        selection = selection_of(model, prediction.masked)
        told = f"{run.name}: {card.network or card.policy.name}"
        if selection.before:
            told += f", {selection.token_share(model.spec.depth):.0%} of the tokens"
        panels = [
            outlined(overlay.draw(image_HW3, label_HW, f"labels of frame {index}"), _outline(sample.things)),
            draw_found(model, card, image_HW3, prediction.raw, told).picture_HW3,
        ]
        if selection.before:
            heat_HW3 = draw_heat(image_HW3, selection, model.spec.depth)
            panels.append(overlay.caption(heat_HW3, f"blocks of each token: blue few, yellow all {model.spec.depth}"))
        rows.append(panels)
    picture_HW3 = sheet(rows)
    with write_atomic(run.out / f"samples-{run.name}.png", "samples") as partial:
        Image.fromarray(picture_HW3).save(partial, "PNG")
    add_picture(run, picture_HW3)


def _outline(things: Instances | None) -> Bool | None:
    """Of labelled things but for crowds; None: the labels are of areas."""
    if things is None:
        return None
    return outline_of((things.mask(index) for index in range(len(things)) if not things.crowd_I[index]), things.size)


def sheet(rows: list[list[UInt8]]) -> UInt8:
    """Pictures of one size in rows, (H, W, 3)."""
    height, width = rows[0][0].shape[:2]
    panel = (PANEL_PX, round(PANEL_PX * height / width))
    grid = PanelGrid(max(map(len, rows)), [panel[1]] * len(rows), PANEL_PX, GAP_PX, top=GAP_PX)
    picture = grid.ground()
    for line, panels in enumerate(rows):
        for column, panel_HW3 in enumerate(panels):
            shown = Image.fromarray(panel_HW3).resize(panel, Image.Resampling.LANCZOS)
            picture.paste(shown, grid.at(line, column))
    return np.asarray(picture)
