"""Tileable shade textures: masonry, grain, slabs, foliage. All square, float32, zero mean, in units of shades."""

from __future__ import annotations

import numpy as np


def fractal(rng: np.random.Generator, size: int, slope: float) -> np.ndarray:
    """Tileable noise with a 1/f**slope amplitude spectrum, (size, size), zero mean and unit standard deviation."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * frequency**-slope
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return (noise / noise.std()).astype(np.float32)


def grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fine grain over soft stains. Asphalt, render, concrete and painted sheet metal all use it, on purpose:
    which of them a grey patch belongs to can only be told from what surrounds it."""
    return 1.3 * fractal(rng, size, 0.4) + 1.2 * fractal(rng, size, 1.6)


def courses(rng: np.random.Generator, size: int, height: int, length: int, joint: float, spread: float) -> np.ndarray:
    """Bonded blocks `height` x `length` texels with joints `joint` shades darker; block shades vary by `spread`."""
    row, column = np.mgrid[:size, :size]
    course = row // height
    shifted = (column + (course % 2) * (length // 2)) % size
    tone = rng.standard_normal((size // height + 1, size // length + 1)) * spread
    shade = tone[course, shifted // length]
    shade = np.where((row % height == 0) | (shifted % length == 0), -joint, shade)
    return (shade + 0.9 * fractal(rng, size, 0.5) + 0.8 * fractal(rng, size, 1.5)).astype(np.float32)


def leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Foliage: clumps lit from above with dark gaps between them."""
    clumps = fractal(rng, size, 0.9)
    return (4.0 * clumps + 2.0 * fractal(rng, size, 0.2) + 2.5 * (clumps - np.roll(clumps, -2, axis=0))).astype(
        np.float32
    )
