"""Classes as trajectories.

An actor's state is a point on a torus: x and y wrap around the frame, the angle wraps around the circle, and the
position in the size range wraps from largest to smallest. Every video starts at a uniformly random point of that
torus, whatever its class, and a class is a displacement from the start. A uniform point stays uniform under any
displacement, so at every instant of every class the state has the same distribution: no single frame, taken at any
time, says anything about the class. Only the change from frame to frame does.

Clockwise is as seen on screen (y grows downward). Time is counted in cycles (see `CYCLE_S`), so that speeds are
relative to the frame and to the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

CYCLE_S = 2.0  # seconds of one cycle, less where a video is shorter; at 5 fps one cycle is 10 samples


@dataclass(frozen=True, slots=True)
class Track:
    """An actor's state at N instants; float64 arrays (N,).

    x, y: centre in short sides of the frame, not wrapped. angle: radians, clockwise. zoom: [0, 1), position in the
    size range, 0 smallest; it jumps where it wraps.
    """

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    zoom: np.ndarray

    def end(self) -> State:
        return State(float(self.x[-1]), float(self.y[-1]), float(self.angle[-1]), float(self.zoom[-1]))

    def then(self, following: Track) -> Track:
        """This track and a following one that begins at this one's last instant."""
        pairs = zip(self._arrays(), following._arrays(), strict=True)
        return Track(*(np.concatenate([ours, theirs[1:]]) for ours, theirs in pairs))

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.x, self.y, self.angle, self.zoom

    def cuts(self) -> np.ndarray:
        """Where the size wraps between instant i and i + 1; bool (N - 1,)."""
        return np.abs(np.diff(self.zoom)) > 0.5


@dataclass(frozen=True, slots=True)
class State:
    """One instant of a `Track`."""

    x: float
    y: float
    angle: float
    zoom: float


# (start, instants in cycles from the start (N,), random numbers) -> the track at those instants
Motion = Callable[[State, np.ndarray, np.random.Generator], Track]


@dataclass(frozen=True, slots=True)
class Steady:
    """Constant rates per cycle: short sides right and down, turns clockwise, sweeps of the size range."""

    right: float = 0.0
    down: float = 0.0
    turns: float = 0.0
    sweeps: float = 0.0

    def __call__(self, start: State, cycles: np.ndarray, rng: np.random.Generator) -> Track:
        return Track(
            start.x + self.right * cycles,
            start.y + self.down * cycles,
            start.angle + 2 * np.pi * self.turns * cycles,
            (start.zoom + self.sweeps * cycles) % 1.0,
        )


@dataclass(frozen=True, slots=True)
class Swing:
    """Sinusoids about a point: amplitudes in short sides and radians, `beats` oscillations a cycle, random phase."""

    right: float = 0.0
    down: float = 0.0
    angle: float = 0.0
    beats: float = 1.0

    def __call__(self, start: State, cycles: np.ndarray, rng: np.random.Generator) -> Track:
        phase = rng.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * self.beats * cycles + phase) - np.sin(phase)
        return Track(
            start.x + self.right * wave,
            start.y + self.down * wave,
            start.angle + self.angle * wave,
            np.full_like(cycles, start.zoom),
        )


@dataclass(frozen=True, slots=True)
class Orbit:
    """A circle of `radius` short sides, `turns` clockwise a cycle; the actor's own angle stays."""

    turns: float
    radius: float = 0.2

    def __call__(self, start: State, cycles: np.ndarray, rng: np.random.Generator) -> Track:
        first = rng.uniform(0, 2 * np.pi)
        now = first + 2 * np.pi * self.turns * cycles
        return Track(
            start.x + self.radius * (np.cos(now) - np.cos(first)),
            start.y + self.radius * (np.sin(now) - np.sin(first)),
            np.full_like(cycles, start.angle),
            np.full_like(cycles, start.zoom),
        )


@dataclass(frozen=True, slots=True)
class Shake:
    """Fast irregular jitter: three sinusoids an axis, 4 to 9 beats a cycle."""

    amplitude: float = 0.05  # short sides, of each sinusoid

    def __call__(self, start: State, cycles: np.ndarray, rng: np.random.Generator) -> Track:
        beats = rng.uniform(4, 9, size=(2, 3, 1))
        phase = rng.uniform(0, 2 * np.pi, size=(2, 3, 1))
        waves = np.sin(2 * np.pi * beats * cycles + phase) - np.sin(phase)  # (axis, sinusoid, N)
        right, down = self.amplitude * waves.sum(axis=1)
        return Track(
            start.x + right, start.y + down, np.full_like(cycles, start.angle), np.full_like(cycles, start.zoom)
        )


@dataclass(frozen=True, slots=True)
class Pulse:
    """The size goes up and down its whole range, evenly; `beats` ups and downs a cycle."""

    beats: float = 1.0

    def __call__(self, start: State, cycles: np.ndarray, rng: np.random.Generator) -> Track:
        # a circle of length 2 folded onto [0, 1]: a uniform point stays uniform, and no instant jumps
        first = start.zoom if rng.random() < 0.5 else 2 - start.zoom
        around = (first + 2 * self.beats * cycles) % 2
        zoom = np.minimum(np.where(around < 1, around, 2 - around), np.nextafter(1, 0))
        return Track(
            np.full_like(cycles, start.x), np.full_like(cycles, start.y), np.full_like(cycles, start.angle), zoom
        )


@dataclass(frozen=True, slots=True)
class Then:
    """One motion for the first half of the instants, another for the rest: only their order tells a-b from b-a."""

    first: Motion
    second: Motion

    def __call__(self, start: State, cycles: np.ndarray, rng: np.random.Generator) -> Track:
        middle = len(cycles) // 2
        before = self.first(start, cycles[: middle + 1], rng)
        return before.then(self.second(before.end(), cycles[middle:] - cycles[middle], rng))


MOVE = 0.8  # short sides a cycle
SLANT = MOVE / np.sqrt(2)
TURN = 0.8  # turns a cycle
SWEEP = 1.0  # sweeps of the size range a cycle

_BASE: dict[str, Motion] = {  # time-reversed pairs first
    "move_right": Steady(right=MOVE),
    "move_left": Steady(right=-MOVE),
    "move_up": Steady(down=-MOVE),
    "move_down": Steady(down=MOVE),
    "rotate_cw": Steady(turns=TURN),
    "rotate_ccw": Steady(turns=-TURN),
    "zoom_in": Steady(sweeps=SWEEP),
    "zoom_out": Steady(sweeps=-SWEEP),
    "shake": Shake(),
    "still": Steady(),
    "move_up_right": Steady(right=SLANT, down=-SLANT),
    "move_down_left": Steady(right=-SLANT, down=SLANT),
    "move_up_left": Steady(right=-SLANT, down=-SLANT),
    "move_down_right": Steady(right=SLANT, down=SLANT),
    "orbit_cw": Orbit(turns=1.0),
    "orbit_ccw": Orbit(turns=-1.0),
    "pulse": Pulse(),
    "wobble": Swing(angle=0.7, beats=2.0),
    "sway": Swing(right=0.2),
    "bounce": Swing(down=0.2),
}
STILL = "still"


def _sequences() -> dict[str, Motion]:
    """`a_then_b` and `b_then_a` of every two base motions; still is left out, since it marks unlabelled stretches."""
    found: dict[str, Motion] = {}
    for one, other in combinations([name for name in _BASE if name != STILL], 2):
        found[f"{one}_then_{other}"] = Then(_BASE[one], _BASE[other])
        found[f"{other}_then_{one}"] = Then(_BASE[other], _BASE[one])
    return found


def _compounds() -> dict[str, Motion]:
    """Two or three of: a direction, a rotation sense, a zoom; at once."""
    moves = [None, *(name for name in _BASE if name.startswith("move_"))]
    turns = [None, "rotate_cw", "rotate_ccw"]
    zooms = [None, "zoom_in", "zoom_out"]
    found: dict[str, Motion] = {}
    for parts in product(moves, turns, zooms):
        names = [name for name in parts if name]
        if len(names) > 1:
            steady = [part for part in map(_BASE.__getitem__, names) if isinstance(part, Steady)]
            found["_and_".join(names)] = Steady(
                right=sum(part.right for part in steady),
                down=sum(part.down for part in steady),
                turns=sum(part.turns for part in steady),
                sweeps=sum(part.sweeps for part in steady),
            )
    return found


MOTIONS: dict[str, Motion] = {**_BASE, **_sequences(), **_compounds()}
CATALOGUE: tuple[str, ...] = tuple(MOTIONS)  # in the order in which classes are taken


def random_state(rng: np.random.Generator, *, width: float, height: float) -> State:
    """A uniform point of the torus of a frame of `width` x `height` short sides."""
    return State(
        float(rng.uniform(0, width)),
        float(rng.uniform(0, height)),
        float(rng.uniform(0, 2 * np.pi)),
        float(rng.uniform(0, 1)),
    )
