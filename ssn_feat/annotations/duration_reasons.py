"""Guesses why the durations of two sources differ: frames taken for seconds, another frame rate, factor or offset."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A reason must fit this share of the videos.
_MOST = 0.9
# Relative and absolute (seconds) deviation at which a reason still fits a duration.
_RELATIVE, _ABSOLUTE = 0.005, 0.2
# With fewer videos, only a well-known factor counts: another one, or an offset, may fit by chance.
_FEW = 3
# Common frame rates.
_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)
_MILLISECONDS = 1000.0
# Quotients of the rates up to 30 that differ from 1 by more than 1 %.
_QUOTIENTS = {a / b: (a, b) for a, b in itertools.permutations(_RATES[:5], 2) if a / b > 1.01}
_FACTORS = sorted({*_RATES, *_QUOTIENTS, 2.0, 10.0, 100.0, _MILLISECONDS})
# Relative deviation at which a factor is a well-known one.
_SAME = 0.004
# Replaces durations of 0 s, which cannot be divided by.
_SHORTEST = 1e-3

Float = NDArray[np.float64]


def reason_for_durations(ours: Float, theirs: Float, rates: Float, what: str, other: str) -> str:
    """Why durations ``ours`` of the source ``what`` differ from ``theirs`` of ``other``; empty if no reason fits.

    All three arrays are ``(V,)``; ``rates`` are frames per second, NaN where unknown.
    """
    ours, theirs = (np.maximum(durations, _SHORTEST) for durations in (ours, theirs))
    if np.median(ours / theirs) < 1:
        ours, theirs, what, other = theirs, ours, other, what
    known = np.isfinite(rates)
    if known.mean() >= _MOST and _fit(ours[known] / rates[known], theirs[known]):
        return f"those in {what} are {_frames(np.unique(rates[known]))}"
    factor = float(np.median(ours / theirs))
    offset = float(np.median(ours - theirs))
    scaled, shifted = _fit(ours / factor, theirs), _fit(ours - offset, theirs)
    meaning = _meaning(factor) if scaled else None
    if meaning is None and len(ours) >= _FEW and shifted:
        return f"those in {what} are {_plain(offset)} s longer than those in {other}"
    if meaning is None and (len(ours) < _FEW or not scaled):
        return ""
    return f"those in {what} are {_plain(factor)} times those in {other}{meaning or ''}"


def reason_for_intervals(intervals: Sequence[Float], durations: Float, rates: Float) -> str:
    """Why intervals (``(N, 2)`` of each video) end after their videos; empty if no reason fits.

    Intervals only give a lower bound of the duration, so a reason must make them fit closely.
    """
    starts, ends = (np.array([pick(rows) for rows in intervals]) for pick in (_first_start, _last_end))
    least, most = np.quantile(ends - durations, _MOST), np.quantile(starts, 1 - _MOST)
    if least > 1 and most >= least - max(_ABSOLUTE, _RELATIVE * least):
        return f"they fit if about {round((least + max(most, least)) / 2)} s are subtracted"
    known = np.isfinite(rates)
    if known.mean() >= _MOST and _closely(ends[known] / rates[known], durations[known]):
        return f"they are {_frames(np.unique(rates[known]))}"
    for factor in _FACTORS:
        if _closely(ends / factor, durations):
            return f"they fit if divided by {_plain(factor)}{_meaning(factor) or ''}"
    return ""


def _first_start(rows: Float) -> float:
    return float(rows[:, 0].min())


def _last_end(rows: Float) -> float:
    return float(rows[:, 1].max())


def _fit(predicted: Float, durations: Float) -> bool:
    near = np.abs(predicted - durations) <= np.maximum(_ABSOLUTE, _RELATIVE * durations)
    return bool(near.mean() >= _MOST)


def _closely(ends: Float, durations: Float) -> bool:
    """Whether intervals that end at ``ends`` are inside their videos and reach far into them."""
    share = ends / durations
    return bool((share <= 1.02).mean() >= _MOST and np.median(share) > 0.5)


def _meaning(factor: float) -> str | None:
    """What a well-known factor above 1 may mean (empty if unknown); None if the factor is not well-known."""
    known = min(_FACTORS, key=lambda each: abs(each - factor))
    if abs(factor / known - 1) > _SAME:
        return None
    if known == _MILLISECONDS:
        return ", as if milliseconds were taken for seconds"
    if known in _RATES:
        return f", as if frames at {_plain(known)} per second were taken for seconds"
    if known in _QUOTIENTS:
        faster, slower = _QUOTIENTS[known]
        return f", as if {_plain(slower)} frames per second were assumed instead of {_plain(faster)}"
    return ""


def _frames(rates: Float) -> str:
    some = " or ".join(_plain(float(rate)) for rate in rates[:3])
    return f"numbers of frames, at {some}{' or ...' * (len(rates) > 3)} per second, that were taken for seconds"


def _plain(value: float) -> str:
    """A number with five digits, or without decimals."""
    return f"{value:.0f}" if value >= 1e4 else f"{value:.5g}"


__all__ = ["reason_for_durations", "reason_for_intervals"]
