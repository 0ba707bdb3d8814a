"""Drawing of the toy videos: objects with patterns that move in front of a drifting texture, seen by a shaky camera.

Each video has its own random generator, so its frames depend on its plan only. Lengths are in pixels, times in frames,
colours are BGR in [0, 255] as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssn_feat.video.opencv import import_cv2

WIDTH, HEIGHT, FPS = 160, 120, 25

# Objects stay in the middle square of the picture, which a centre crop keeps.
_LEFT, _RIGHT = (WIDTH - HEIGHT) / 2, (WIDTH + HEIGHT) / 2
_RADIUS = (22.0, 30.0)
_MARGIN = 18  # minimum distance of an object's centre from the edges of that square
_SPRITE = 28  # radius at which a sprite is drawn
_HERTZ = {"pulsing": (1.4, 2.0), "shaking": (0.8, 1.3)}
_FADE = 4  # frames in which an object fades in, and out
_NOISE = 1.0  # standard deviation of the grey noise of every frame

Array = NDArray[np.float32]
Plane = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """One object: its pattern, its motion, and its frames ``[first, last)``."""

    pattern: str
    motion: str
    first: int
    last: int


@dataclass(frozen=True)
class _Path:
    """Position of an object in each of its frames, arrays ``(F,)``; angle in radians, scale relative to the sprite."""

    x: Plane
    y: Plane
    angle: Plane
    scale: Plane
    opacity: Plane


# --- patterns: which points (u, v) in [-1, 1] of an object have its first colour


def _striped(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.sin(2 * np.pi * rng.uniform(1.5, 2.2) * u + rng.uniform(0, 6)) > 0


def _checkered(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    k = 2 * np.pi * rng.uniform(1.0, 1.5)
    return np.sin(k * u + rng.uniform(0, 6)) * np.sin(k * v + rng.uniform(0, 6)) > 0


def _ringed(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.sin(2 * np.pi * rng.uniform(1.5, 2.2) * np.hypot(u, v) + rng.uniform(0, 6)) > 0


def _dotted(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    k = rng.uniform(1.3, 1.9)
    cells = [(k * axis + rng.uniform()) % 1 - 0.5 for axis in (u, v)]
    return np.hypot(*cells) < 0.36


def _halved(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    return u > rng.uniform(-0.2, 0.2)


def _crossed(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.minimum(abs(u), abs(v)) < rng.uniform(0.2, 0.3)


def _blotched(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    return _smooth_noise(len(u), len(u), 6, rng) > 0


def _wedged(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.asarray(np.sin(3 * np.arctan2(u, v)) > 0)


Pattern = Callable[[Plane, Plane, np.random.Generator], NDArray[np.bool_]]
APPEARANCES: dict[str, Pattern] = {"checkered": _checkered, "ringed": _ringed, "striped": _striped}
PLAIN: dict[str, Pattern] = {
    "blotched": _blotched, "crossed": _crossed, "dotted": _dotted, "halved": _halved, "wedged": _wedged
}  # fmt: skip
MOTIONS = ("pulsing", "shaking", "spinning")
DRIFT = "drifting"


def _smooth_noise(height: int, width: int, cells: int, rng: np.random.Generator) -> Plane:
    """Noise that varies over ``cells`` cells across the width, ``(height, width)``, about [-1, 1]."""
    cv2 = import_cv2()
    coarse = rng.uniform(-1, 1, (max(2, cells * height // width), cells))
    result: Plane = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return result


def _outline(u: Plane, v: Plane, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The points inside a disc, a square, a hexagon or an octagon."""
    sides = (0, 4, 6, 8)[rng.integers(4)]
    if not sides:
        return np.asarray(np.hypot(u, v) < 0.95)
    angles = 2 * np.pi * np.arange(sides) / sides
    distances = [np.cos(a) * u + np.sin(a) * v for a in angles]
    return np.asarray(np.max(distances, axis=0) < 0.95 * np.cos(np.pi / sides))


def _colours(rng: np.random.Generator) -> Array:
    """Two random colours, ``(2, 3)``, different enough to show a pattern."""
    while True:
        pair = rng.uniform(20, 235, (2, 3))
        if abs(pair.mean(1)[0] - pair.mean(1)[1]) > 60:
            return pair.astype(np.float32)


def _sprite(pattern: str, rng: np.random.Generator) -> Array:
    """One upright object at its nominal size, ``(S, S, 4)``: colour times alpha, and alpha in [0, 1]."""
    fine = 4  # drawn four times as large, then averaged for smooth edges
    size = 2 * _SPRITE
    axis = (np.arange(size * fine) + 0.5) / (_SPRITE * fine) - 1
    u, v = np.meshgrid(axis, axis)
    inside = _outline(u, v, rng)
    first = (APPEARANCES | PLAIN)[pattern](u, v, rng)
    layers = np.stack([inside & first, inside & ~first]).reshape(2, size, fine, size, fine).mean((2, 4))
    colour = np.tensordot(layers, _colours(rng), axes=(0, 0))
    return np.dstack([colour, layers.sum(0)]).astype(np.float32)


# --- motion


def _back_and_forth(start: float, speed: float, low: float, high: float, times: Plane) -> Plane:
    """Position of a point that moves at constant speed and reverses at ``low`` and ``high``."""
    width = max(high - low, 1e-6)
    return low + abs((start - low + speed * times + width) % (2 * width) - width)


def _path(track: Track, rng: np.random.Generator) -> _Path:
    """All objects drift; those of a motion class have an additional motion."""
    count = track.last - track.first
    t = np.arange(count, dtype=np.float64)
    hertz = rng.uniform(*_HERTZ.get(track.motion, (0, 0)))
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * hertz / FPS * t
    scale = np.full(count, rng.uniform(*_RADIUS) / _SPRITE)
    if track.motion == "pulsing":
        scale *= 1 + 0.35 * np.sin(phase)
    else:
        # Same distribution of sizes as a pulsing object, so that size does not reveal the class.
        scale *= 1 + 0.35 * np.sin(rng.uniform(0, 2 * np.pi))
    turn = rng.choice([-1, 1]) * rng.uniform(4.0, 6.5) / FPS if track.motion == "spinning" else 0.0
    swing = rng.uniform(16, 24) if track.motion == "shaking" else 0.0
    heading, speed = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.25), np.log(1.6)))
    low, high = _LEFT + _MARGIN + swing, _RIGHT - _MARGIN - swing
    x = _back_and_forth(rng.uniform(low, high), speed * np.cos(heading), low, high, t) + swing * np.sin(phase)
    top, bottom = _MARGIN, HEIGHT - _MARGIN
    y = _back_and_forth(rng.uniform(top, bottom), speed * np.sin(heading), top, bottom, t)
    opacity = np.clip(np.minimum(t + 1, count - t) / _FADE, 0, 1)
    return _Path(x, y, rng.uniform(0, 2 * np.pi) + turn * t, scale, opacity)


def _camera(count: int, rng: np.random.Generator) -> Plane:
    """Displacement of a hand-held camera in each frame, a slow drift plus jitter, ``(F, 2)``."""
    wander = np.empty((count, 2))
    at = np.zeros(2)
    for index, push in enumerate(rng.normal(0, 0.3, (count, 2))):
        at = 0.95 * at + push
        wander[index] = at
    return wander + rng.normal(0, 0.15, (count, 2))


# --- drawing


def _background(rng: np.random.Generator) -> Array:
    """A texture of several scales in three random colours, twice as large as the picture in each direction."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    picture = np.tile(rng.uniform(60, 195, 3), (height, width, 1))
    for cells, strength in ((5, 45), (16, 30), (48, 22)):
        picture += _smooth_noise(height, width, cells, rng)[..., None] * rng.uniform(-1, 1, 3) * strength
        picture += _smooth_noise(height, width, cells, rng)[..., None] * rng.uniform(0, 1) * strength
    return picture.astype(np.float32)


def _put(frame: Array, sprite: Array, x: float, y: float, angle: float, scale: float, opacity: float) -> None:
    """Draw ``sprite`` with its centre at (x, y) into ``frame`` (H, W, 3), clipped at the edges."""
    cv2 = import_cv2()
    reach = int(np.ceil(_SPRITE * scale * np.sqrt(2))) + 1
    left, top = int(np.floor(x)) - reach, int(np.floor(y)) - reach
    x0, x1 = max(left, 0), min(left + 2 * reach + 1, frame.shape[1])
    y0, y1 = max(top, 0), min(top + 2 * reach + 1, frame.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    middle = _SPRITE - 0.5
    matrix = np.array([[c, -s, x - x0 - (c - s) * middle], [s, c, y - y0 - (s + c) * middle]])
    patch = cv2.warpAffine(sprite, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR) * np.float32(opacity)
    part = frame[y0:y1, x0:x1]
    part *= 1 - patch[..., 3:]
    part += patch[..., :3]


def frames(
    wanted: Iterable[int], count: int, tracks: tuple[Track, ...], rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """The frames with the numbers ``wanted`` of a video with ``count`` frames, uint8 ``(HEIGHT, WIDTH, 3)`` BGR.

    Later tracks are closer to the camera.
    """
    cv2 = import_cv2()
    background = _background(rng)
    objects = [(track, _sprite(track.pattern, rng), _path(track, rng)) for track in tracks]
    camera = _camera(count, rng)
    grain = rng.normal(0, _NOISE, (2 * HEIGHT, 2 * WIDTH, 1)).astype(np.float32)
    grain_corners = np.column_stack([rng.integers(0, HEIGHT, count), rng.integers(0, WIDTH, count)])
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
    t = np.arange(count, dtype=np.float64)
    pan_x = _back_and_forth(rng.uniform(20, WIDTH - 20), speed * np.cos(heading), 20, WIDTH - 20, t) - camera[:, 0]
    pan_y = _back_and_forth(rng.uniform(20, HEIGHT - 20), speed * np.sin(heading), 20, HEIGHT - 20, t) - camera[:, 1]
    for index in wanted:
        window = np.array([[1, 0, -pan_x[index]], [0, 1, -pan_y[index]]])
        frame = cv2.warpAffine(background, window, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        for track, sprite, p in objects:
            if track.first <= index < track.last:
                i = index - track.first
                x, y = p.x[i] + camera[index, 0], p.y[i] + camera[index, 1]
                _put(frame, sprite, x, y, p.angle[i], p.scale[i], p.opacity[i])
        row, column = grain_corners[index]
        frame += grain[row : row + HEIGHT, column : column + WIDTH]
        yield np.clip(np.rint(frame), 0, 255).astype(np.uint8)
