"""One video's scene: its actors, their tracks, and what is on screen in each frame.

Coordinates are pixels with the origin at the centre of the top left pixel, x right and y down, as OpenCV has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from pipeline.synth.backgrounds import pick_background
from pipeline.synth.motion import CYCLE_S, MOTIONS, STILL, Track, random_state
from pipeline.synth.plan import VideoPlan
from pipeline.synth.spec import SynthSpec
from pipeline.synth.texture import actor_texture, background_texture, random_shape

SMALLEST, LARGEST = 0.48, 0.85  # diameter of an actor, in short sides, at the ends of its size range; under 1, so
# that the copies of an actor on the torus never touch
TEXTURE_WAVE = 0.2  # short sides, for an actor at its largest
PACE = (0.85, 1.15)  # speed of a stretch, drawn for each apart from its class
KINDS = ("trimmed", "untrimmed")


@dataclass(frozen=True, slots=True)
class Actor:
    """A textured patch that moves.

    patch: premultiplied RGB and opacity, float32 (S, S, 4), 0 to 255 and 0 to 1, of diameter LARGEST.
    outline: (K, 2) px from the patch's centre. matrices: (N, 2, 3), patch px -> frame px, for the copy whose centre
    is on screen. laps: (N, 2) how often x and y have wrapped, to tell copies apart. cuts: (N - 1,) bool, where the
    size wraps between two frames.
    """

    patch: np.ndarray
    outline: np.ndarray
    matrices: np.ndarray
    laps: np.ndarray
    cuts: np.ndarray


@dataclass(frozen=True, slots=True)
class Copy:
    """One appearance of an actor in one frame: on a torus an actor at an edge is also at the opposite one."""

    actor: int
    lap: tuple[int, int]  # the same from frame to frame for the same copy
    matrix: np.ndarray  # (2, 3) patch px -> frame px
    bounds: tuple[float, float, float, float]  # x1, y1, x2, y2 of the whole outline in px, not clipped


class Scene:
    """A video before it is encoded. Deterministic by (spec.seed, plan.kind, plan.index) and the labels.

    background: float32 RGB of the frame's size with `margin_px` more on each side. background_name: its file in the
    folder of backgrounds, or None for a procedural texture.
    """

    def __init__(self, spec: SynthSpec, plan: VideoPlan) -> None:
        self.spec, self.plan = spec, plan
        seed = [spec.seed, KINDS.index(plan.kind), plan.index]
        # looks and motion have their own streams, so that no draw of one depends on the class
        looks, moves = (np.random.default_rng([*seed, stream]) for stream in (0, 1))
        self.background, self.background_name = _background(spec, looks)
        self.camera = _camera_path(spec, plan.num_frames, moves)
        self.actors = [self._actor(number, looks, moves) for number in range(spec.num_actors)]

    @cached_property
    def _size_px(self) -> np.ndarray:
        return np.array([self.spec.width_px, self.spec.height_px], dtype=np.float64)

    def _actor(self, number: int, looks: np.random.Generator, moves: np.random.Generator) -> Actor:
        radius_px = LARGEST * self.spec.short_px / 2
        side_px = int(np.ceil(2 * radius_px)) + 4
        shape = random_shape(looks)
        mask = shape.mask(side_px=side_px, radius_px=radius_px)[..., None]
        texture = actor_texture(looks, side_px=side_px, wavelength_px=TEXTURE_WAVE * self.spec.short_px)
        track = actor_track(self.spec, self.plan, number, moves)
        matrices, laps = self._matrices(track, centre_px=(side_px - 1) / 2)
        return Actor(
            patch=np.concatenate([texture * mask, mask], axis=2),
            outline=shape.outline() * radius_px,
            matrices=matrices,
            laps=laps,
            cuts=track.cuts(),
        )

    def _matrices(self, track: Track, *, centre_px: float) -> tuple[np.ndarray, np.ndarray]:
        place = np.stack([track.x, track.y], axis=1) * self.spec.short_px + self.camera
        laps = np.floor(place / self._size_px)
        place = place - laps * self._size_px - 0.5  # pixel i spans [i, i + 1) of the torus and is centred at i
        scale = (SMALLEST / LARGEST) ** (1 - track.zoom)
        cos, sin = scale * np.cos(track.angle), scale * np.sin(track.angle)
        matrices = np.empty((len(scale), 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 1] = cos, -sin
        matrices[:, 1, 0], matrices[:, 1, 1] = sin, cos
        matrices[:, :, 2] = place - matrices[:, :, :2] @ np.full(2, centre_px)
        return matrices, laps.astype(np.int64)

    def copies(self, frame: int) -> list[Copy]:
        """All appearances of all actors in a frame, in drawing order: later ones cover earlier ones."""
        return [copy for number in range(len(self.actors)) for copy in self._copies(number, frame)]

    def _copies(self, number: int, frame: int) -> list[Copy]:
        matrix, lap = self.actors[number].matrices[frame], self.actors[number].laps[frame]
        outline = self._outline(number, matrix)
        low, high = outline.min(axis=0), outline.max(axis=0)
        found = []
        for across in (-1, 0, 1):
            for down in (-1, 0, 1):
                shift = np.array([across, down]) * self._size_px
                if ((high + shift) > -0.5).all() and ((low + shift) < self._size_px - 0.5).all():
                    moved = np.column_stack([matrix[:, :2], matrix[:, 2] + shift])
                    (x1, y1), (x2, y2) = low + shift, high + shift
                    where = (across - int(lap[0]), down - int(lap[1]))
                    found.append(Copy(number, where, moved, (float(x1), float(y1), float(x2), float(y2))))
        return found

    def outline(self, copy: Copy) -> np.ndarray:
        """A copy's whole outline, on screen or not; (K, 2) px."""
        return self._outline(copy.actor, copy.matrix)

    def _outline(self, number: int, matrix: np.ndarray) -> np.ndarray:
        actor = self.actors[number]
        centre = matrix[:, :2] @ np.full(2, (len(actor.patch) - 1) / 2) + matrix[:, 2]
        return np.asarray(actor.outline @ matrix[:, :2].T + centre)

    def picture(self, frame: int) -> np.ndarray:
        """The frame; uint8 RGB (height_px, width_px, 3)."""
        canvas = self._canvas(frame)
        for copy in self.copies(frame):
            window, warped = self._warp(copy)
            under = canvas[window]
            under *= 1 - warped[..., 3:]
            under += warped[..., :3]
        return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)

    def layers(self, frame: int) -> np.ndarray:
        """Which actor is seen at each pixel, counted from 1; 0 is the background; uint8 (height_px, width_px)."""
        layers = np.zeros((self.spec.height_px, self.spec.width_px), np.uint8)
        for copy in self.copies(frame):
            window, warped = self._warp(copy)
            layers[window][warped[..., 3] >= 0.5] = copy.actor + 1
        return layers

    def _canvas(self, frame: int) -> np.ndarray:
        size = (self.spec.width_px, self.spec.height_px)
        margin = margin_px(self.spec)
        if margin == 0:
            return self.background.copy()
        right, down = self.camera[frame] - margin
        return cv2.warpAffine(self.background, np.array([[1, 0, right], [0, 1, down]]), size, flags=cv2.INTER_LINEAR)

    def _warp(self, copy: Copy) -> tuple[tuple[slice, slice], np.ndarray]:
        """The part of the frame that a copy can touch, and the patch warped onto it; float32 (h, w, 4)."""
        x1, y1, x2, y2 = copy.bounds
        left, top = max(0, int(x1) - 2), max(0, int(y1) - 2)
        right = min(self.spec.width_px, int(x2) + 4)
        bottom = min(self.spec.height_px, int(y2) + 4)
        matrix = copy.matrix - np.array([[0, 0, left], [0, 0, top]])
        patch = self.actors[copy.actor].patch
        warped = cv2.warpAffine(patch, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
        return (slice(top, bottom), slice(left, right)), warped


def margin_px(spec: SynthSpec) -> int:
    """How much wider than the frame a background must be on each side, for the camera's jitter."""
    return int(np.ceil(spec.camera_jitter_px)) + 1 if spec.camera_jitter_px else 0


def _background(spec: SynthSpec, rng: np.random.Generator) -> tuple[np.ndarray, str | None]:
    """A texture or a real picture of the frame's size with the camera's margin, and the picture's file."""
    height_px, width_px = (side + 2 * margin_px(spec) for side in (spec.height_px, spec.width_px))
    # a stream of its own, so that the same actors come over any background
    own = np.random.default_rng(int(rng.integers(2**63)))
    if spec.backgrounds is None:
        return background_texture(own, height_px=height_px, width_px=width_px), None
    return pick_background(spec.backgrounds, own, height_px=height_px, width_px=width_px)


def actor_track(spec: SynthSpec, plan: VideoPlan, actor: int, rng: np.random.Generator) -> Track:
    """The track of one actor through all its stretches of a video; still between them."""
    cycle_s = min(CYCLE_S, spec.duration_s)
    state = random_state(rng, width=spec.width_px / spec.short_px, height=spec.height_px / spec.short_px)
    times_s = np.arange(plan.num_frames) / float(spec.rate)
    track = MOTIONS[STILL](state, times_s[:1], rng)
    for label, start, end in _acts(plan, actor):
        pace = rng.uniform(*PACE)
        # from the last frame before the stretch, so that its own frames all show motion; the first frame has none
        first = max(0, start - 1)
        cycles = (times_s[first:end] - times_s[first]) * pace / cycle_s
        track = track.then(MOTIONS[label](track.end(), cycles, rng))
    return track


def _acts(plan: VideoPlan, actor: int) -> list[tuple[str, int, int]]:
    """(label, start, end) of an actor's whole video, its still times included."""
    acts, done = [], 0
    for stretch in plan.stretches:
        if stretch.actor in (None, actor):
            if stretch.start_frame > done:
                acts.append((STILL, done, stretch.start_frame))
            acts.append((stretch.label, stretch.start_frame, stretch.end_frame))
            done = stretch.end_frame
    if done < plan.num_frames:
        acts.append((STILL, done, plan.num_frames))
    return acts


def _camera_path(spec: SynthSpec, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth wander of at most `camera_jitter_px` on each axis; (num_frames, 2) px right and down."""
    times_s = np.arange(num_frames) / float(spec.rate)
    hertz = rng.uniform(0.2, 1.5, size=(2, 3, 1))
    phase = rng.uniform(0, 2 * np.pi, size=(2, 3, 1))
    waves = np.sin(2 * np.pi * hertz * times_s + phase).mean(axis=1)
    return spec.camera_jitter_px * waves.T
