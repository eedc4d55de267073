"""Procedural textures and shapes. All are band-limited, so that bilinear warping neither aliases nor flickers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])
ACTOR_TINT, BACKGROUND_TINT = 55.0, 20.0  # how far colours are from grey


def noise(rng: np.random.Generator, *, height_px: int, width_px: int, wavelength_px: float) -> np.ndarray:
    """Noise whose waves are around `wavelength_px` long; float32 (height_px, width_px), mean 0, deviation 1."""
    white = np.fft.rfft2(rng.standard_normal((height_px, width_px)))
    frequency = np.hypot(np.fft.fftfreq(height_px)[:, None], np.fft.rfftfreq(width_px)[None, :])
    band = np.exp(-0.5 * (np.log(np.maximum(frequency, 1e-9) * wavelength_px) / 0.35) ** 2)  # an octave or so
    field = np.fft.irfft2(white * band, s=(height_px, width_px))
    return ((field - field.mean()) / max(float(field.std()), 1e-9)).astype(np.float32)


def _tint(rng: np.random.Generator, *, strength: float) -> np.ndarray:
    """A random shift of colour that keeps the brightness; (3,) RGB of length `strength`."""
    shift = rng.standard_normal(3)
    shift -= (shift @ LUMA) / (LUMA @ LUMA) * LUMA
    return np.asarray(shift * strength / np.linalg.norm(shift))


def actor_texture(rng: np.random.Generator, *, side_px: int, wavelength_px: float) -> np.ndarray:
    """Dark and light patches of two random hues; float32 RGB (side_px, side_px, 3), 0 to 255.

    The brightness is the same in every video: nets with random weights then see motion rather than paint.
    """
    dark, light = (level + _tint(rng, strength=ACTOR_TINT) for level in (45, 210))
    mix = (np.tanh(2.5 * noise(rng, height_px=side_px, width_px=side_px, wavelength_px=wavelength_px)) + 1) / 2
    return np.clip(dark + (light - dark) * mix[..., None], 0, 255).astype(np.float32)


def background_texture(rng: np.random.Generator, *, height_px: int, width_px: int) -> np.ndarray:
    """Faint noise of two scales on a dull colour; float32 RGB (height_px, width_px, 3), 0 to 255."""
    picture = np.broadcast_to(127 + _tint(rng, strength=BACKGROUND_TINT), (height_px, width_px, 3)).copy()
    short = min(height_px, width_px)
    for share in (0.08, 0.35):
        field = noise(rng, height_px=height_px, width_px=width_px, wavelength_px=max(4.0, share * short))
        picture += 8 * field[..., None] * rng.uniform(0.5, 1.0, size=3)
    return np.clip(picture, 0, 255).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Shape:
    """A star-shaped outline: radius as a function of direction.

    radii: (K,) float64, K directions evenly around the circle; the largest is 1.
    """

    radii: np.ndarray

    def outline(self) -> np.ndarray:
        """Points on the outline; (K, 2) x, y."""
        turn = np.linspace(0, 2 * np.pi, len(self.radii), endpoint=False)
        return np.stack([self.radii * np.cos(turn), self.radii * np.sin(turn)], axis=1)

    def mask(self, *, side_px: int, radius_px: float) -> np.ndarray:
        """Opacity with a soft edge two pixels wide, centred; float32 (side_px, side_px), 0 to 1."""
        grid = np.arange(side_px) - (side_px - 1) / 2
        right, down = grid[None, :], grid[:, None]
        turn = np.linspace(0, 2 * np.pi, len(self.radii) + 1)
        edge = np.interp(np.arctan2(down, right) % (2 * np.pi), turn, np.append(self.radii, self.radii[0]))
        return np.clip((edge * radius_px - np.hypot(right, down)) / 2 + 0.5, 0, 1).astype(np.float32)


def random_shape(rng: np.random.Generator, *, num_directions: int = 180) -> Shape:
    """An ellipse, a rounded polygon, a star or a blob, in a random proportion."""
    turn = np.linspace(0, 2 * np.pi, num_directions, endpoint=False)
    kind = rng.choice(["ellipse", "polygon", "star", "blob"])
    if kind == "ellipse":
        flat = rng.uniform(0.6, 0.9)
        radii = flat / np.hypot(flat * np.cos(turn), np.sin(turn))
    elif kind == "polygon":
        sector = 2 * np.pi / rng.integers(3, 7)
        radii = np.minimum(1 / np.cos(turn % sector - sector / 2) * np.cos(sector / 2), 0.9)
    elif kind == "star":
        radii = 1 + 0.22 * np.cos(rng.integers(4, 7) * turn)
    else:
        phases = rng.uniform(0, 2 * np.pi, size=3)
        radii = 1 + 0.13 * sum(np.cos(k * turn + phase) for k, phase in zip((2, 3, 5), phases, strict=True))
    return Shape(radii / radii.max())
