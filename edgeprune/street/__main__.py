"""`python -m edgeprune.street`: frames per second on one core, class shares, and contact sheets to look at."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from edgeprune.street import CLASSES, PALETTE, Street, scene
from edgeprune.street.population import POPULATIONS


def sheet(pairs: list[tuple[np.ndarray, np.ndarray]], across: int = 4) -> np.ndarray:
    """Pictures above their coloured labels, `across` to a row: one (H, W, 3) uint8 picture."""
    cells = [np.concatenate([image, PALETTE[label]]) for image, label in pairs]
    rows = [np.concatenate(cells[k : k + across], axis=1) for k in range(0, len(cells) - across + 1, across)]
    return np.concatenate(rows)


def main() -> None:
    """Measure, and save sheets when asked."""
    parser = argparse.ArgumentParser(prog="python -m edgeprune.street", description=__doc__)
    parser.add_argument(
        "--frames", type=int, default=100, help="frames to time, of a stream and of scenes (%(default)s)"
    )
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0, help="first seed (%(default)s)")
    parser.add_argument("--population", choices=POPULATIONS, default="street", help="(%(default)s)")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write contact sheets as PNG into DIR")
    options = parser.parse_args()
    size = (options.height, options.width, options.population)

    began = time.perf_counter()
    for seed in range(8):
        scene(10_000 + seed, *size)
    print(f"warm-up (textures and sprites): {time.perf_counter() - began:.2f} s")
    street = Street(options.seed, *size)
    began = time.process_time()
    stream = [street.frame(index) for index in range(options.frames)]
    print(f"stream: {options.frames / (time.process_time() - began):.1f} frames/s at {size[0]}x{size[1]} on one core")
    began = time.process_time()
    scenes = [scene(options.seed + k, *size) for k in range(options.frames)]
    print(f"scenes: {options.frames / (time.process_time() - began):.1f} scenes/s at {size[0]}x{size[1]} on one core")
    counts = np.sum([np.bincount(label.ravel(), minlength=len(CLASSES)) for _, label in scenes], axis=0)
    print("class shares over the scenes, %: " + ", ".join(
        f"{name} {share:.2f}" for name, share in zip(CLASSES, 100 * counts / counts.sum(), strict=True)
    ))  # fmt: skip
    if options.save is not None:
        from PIL import Image

        options.save.mkdir(parents=True, exist_ok=True)
        for name, pairs in (("stream", stream[:: max(1, len(stream) // 8)][:8]), ("scenes", scenes[:16])):
            path = options.save / f"{name}.png"
            Image.fromarray(sheet(pairs, min(4, len(pairs)))).save(path)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
