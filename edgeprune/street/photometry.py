"""Light, weather and the camera's electronics."""

from __future__ import annotations

import random

import numpy as np

from edgeprune.street.skin import Skin
from edgeprune.street.textures import fractal

NOISE_SIZE = 1 << 21


NOISE = np.random.default_rng(77).standard_normal(NOISE_SIZE, dtype=np.float32)
CLOUDS = fractal(np.random.default_rng(21), 512, 1.7)  # (512, 512), tileable


class Light:
    """One kind of light and weather, drawn from `rng`; colours are 0..255, gains multiply them."""

    def __init__(self, rng: random.Random) -> None:
        self.weather = rng.choices(["sunny", "overcast", "white", "dusk", "hazy"], [30, 18, 33, 13, 6])[0]
        sunny, dusk = self.weather == "sunny", self.weather == "dusk"
        warm = rng.gauss(0.0, 0.05) + (0.04 if sunny else 0.0)
        balance = np.array([1 + warm, 1 + rng.gauss(0.0, 0.015), 1 - warm], np.float32)
        exposure = rng.uniform(0.35, 0.75) if dusk else rng.uniform(0.75, 1.5)
        self.gain = (balance * exposure).astype(np.float32)
        shadow = rng.uniform(0.35, 0.6) if sunny else rng.uniform(0.7, 0.95)
        self.shade_gain = self.gain * shadow * np.array([0.94, 1.0, 1.08], np.float32)
        self.sun_side = rng.choice((-1, 1))  # the side of the street the sun stands on
        self.casts_shadows = sunny
        bright, dim = (1.35, rng.uniform(0.35, 0.65)) if sunny else (1.1, rng.uniform(0.65, 1.0))
        # A facade on the sun's own side shows the street its shaded face.
        self.facade = {self.sun_side: dim, -self.sun_side: bright}
        self.gable = rng.choice((dim, bright))
        grey = rng.uniform(0.75, 1.0)
        if dusk:
            self.zenith = np.array([95, 110, 135], np.float32) * rng.uniform(0.5, 1.1)
            self.horizon = np.array([215, 195, 170], np.float32) * rng.uniform(0.6, 1.1)
        elif sunny:
            self.zenith = np.array([120, 165, 225], np.float32) * rng.uniform(0.9, 1.4)
            self.horizon = np.array([228, 240, 250], np.float32) * rng.uniform(0.95, 1.15)
        elif self.weather == "white":
            self.zenith = np.array([250, 253, 255], np.float32) * rng.uniform(0.93, 1.1)
            self.horizon = np.array([252, 253, 255], np.float32) * rng.uniform(0.97, 1.1)
        else:
            self.zenith = np.array([175, 185, 198], np.float32) * grey
            self.horizon = np.array([225, 228, 232], np.float32) * grey
        self.sky_gain = rng.uniform(0.9, 1.15) if dusk else rng.uniform(1.05, 1.45)
        self.cloud = rng.uniform(0.0, 0.8) if self.weather != "white" else rng.uniform(0.0, 0.15)
        self.cloud_colour = np.array([240, 240, 242], np.float32) * (grey if not dusk else 0.6)
        self.haze_range = rng.uniform(90, 220) if self.weather == "hazy" else rng.uniform(250, 900)
        self.haze = np.minimum(self.horizon, 235.0) * (0.6 if dusk else 0.85)
        self.glow = rng.uniform(0.3, 1.0) if sunny and rng.random() < 0.4 else 0.0
        self.glow_at = rng.uniform(-0.2, 1.2), rng.uniform(-0.2, 0.35)  # share of width, share of height
        self.wet = rng.uniform(0.15, 0.45) if not sunny and rng.random() < 0.25 else 0.0
        gamma = rng.uniform(1.0, 1.6)
        lift = rng.uniform(0.0, 14.0) if rng.random() < 0.4 else 0.0
        levels = np.arange(256) / 255.0
        self.tone = np.clip(lift + (255.0 - lift) * levels**gamma, 0, 255).astype(np.uint8)
        self.noise = rng.uniform(1.0, 5.0) + (3.0 if dusk else 0.0)
        self.softness = rng.uniform(0.05, 0.24)
        self.smear = rng.random() < 0.15  # sideways motion blur
        self.vignette = rng.uniform(0.0, 0.35)
        self.cloud_shift = rng.randrange(512)

    def table(self, skin: Skin, distance: float, lit: float) -> np.ndarray:
        """The packed pixels of a skin under this light, `distance` metres away."""
        clear = float(np.exp(-distance / self.haze_range))
        table = skin.table(self.gain * np.float32(lit * clear), self.haze * np.float32(1.0 - clear))
        coloured = table.view(np.uint8).reshape(256, 4)
        coloured[:, :3] = self.tone.take(coloured[:, :3])
        return table

    def draw_sky(self, canvas: np.ndarray, bottom: int, heading_px: float) -> None:
        """Fill rows up to `bottom` with sky; clouds move sideways with the camera's heading. Label 0 is sky."""
        rows, columns = max(1, bottom), canvas.shape[1]
        height = np.linspace(1.0, 0.0, rows, dtype=np.float32)[:, None]
        shift = self.cloud_shift + int(heading_px * 320.0 / columns)
        source_row = (np.linspace(0.0, 1.0, rows) ** 1.3 * 300).astype(np.int32)
        source_column = (np.arange(columns) * (320.0 / columns)).astype(np.int32) + shift
        cloud = CLOUDS[source_row[:, None], source_column & 511]
        cover = np.clip(cloud * 0.45 + (self.cloud * 1.8 - 0.7), 0.0, 1.0)
        pixels = np.zeros((rows, columns, 4), np.uint8)
        glow: np.ndarray | float = 0.0
        if self.glow:
            dx = (np.arange(columns, dtype=np.float32) / columns - self.glow_at[0])[None, :] * 1.4
            dy = np.arange(rows, dtype=np.float32)[:, None] / canvas.shape[0] - self.glow_at[1]
            glow = (150.0 * self.glow) / (1.0 + 12.0 * (dx * dx + dy * dy))
        shadow = cloud * 10.0
        for channel in range(3):
            clear = self.horizon[channel] + (self.zenith[channel] - self.horizon[channel]) * height
            value = (clear + cover * (self.cloud_colour[channel] - clear - shadow)) * self.sky_gain + glow
            pixels[..., channel] = self.tone.take(np.clip(value, 0, 255).astype(np.uint8))
        canvas[:rows] = pixels.view(np.uint32)[..., 0]

    def develop(self, canvas: np.ndarray, rng: random.Random) -> np.ndarray:
        """Packed pixels -> the picture a cheap camera takes of them: soft, vignetted, noisy. (H, W, 3) uint8."""
        height, width = canvas.shape
        image = canvas.view(np.uint8).reshape(height, width, 4)[..., :3].astype(np.float32)
        if self.smear:
            image[:, 2:] += image[:, :-2]
            image[:, 2:] *= np.float32(0.5)
        weight = np.float32(self.softness / (1.0 - 2.0 * self.softness))
        # [w 1 w] down, then across; the sums are normalised together with the vignette.
        column = image[:-2] + image[2:]
        column *= weight
        column += image[1:-1]
        soft = column[:, :-2] + column[:, 2:]
        soft *= weight
        soft += column[:, 1:-1]
        y = np.linspace(-1.0, 1.0, height - 2, dtype=np.float32)[:, None]
        x = np.linspace(-1.0, 1.0, width - 2, dtype=np.float32)[None, :]
        fall = (1.0 - self.vignette * 0.5 * (x * x + y * y)) / (1.0 + 2.0 * weight) ** 2
        soft *= fall[..., None]
        image[1:-1, 1:-1] = soft
        image[0], image[-1] = image[1], image[-2]
        image[:, 0], image[:, -1] = image[:, 1], image[:, -2]
        start = rng.randrange(NOISE_SIZE // 2)
        flat = image.reshape(-1)
        need = flat.size
        offset = 0
        while offset < need:  # the noise strip is reused for large frames
            part = min(need - offset, NOISE_SIZE - start)
            flat[offset : offset + part] += NOISE[start : start + part] * np.float32(self.noise)
            offset += part
            start = 0
        np.clip(flat, 0.0, 255.0, out=flat)
        return image.astype(np.uint8)
