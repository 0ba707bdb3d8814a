"""The part of a recipe that decides the features of one stream.

A store holds one recipe for all of its streams. The features of a stream depend only on the part that all streams share
(decoder, snippet grid, crops kept) and on what the stream adds (network, weights, optical flow, size of its crops). The
fingerprint of a stream covers these two parts, so it does not depend on the other streams of the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ssn_feat.store.recipe import Recipe, differences, fingerprint

# Prefixes of the snippet options that affect a single stream.
_PREFIXES = {"rgb": "rgb_", "flow": "flow_", "clip": "clip_"}
_SIZES = ("crop", "short_side", "stretch")


def streams_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of the streams in a recipe, by name; empty if it lists none."""
    streams = recipe.get("streams")
    return dict(streams) if isinstance(streams, Mapping) else {}


def restrict(recipe: Mapping[str, Any], streams: Collection[str]) -> Recipe:
    """The recipe of a store that holds only ``streams``, with the same features."""
    held = streams_of(recipe)
    restricted = {**recipe, "streams": {stream: held.get(stream, {}) for stream in sorted(streams)}}
    snippets = recipe.get("snippets")
    if isinstance(snippets, Mapping):
        others = tuple(prefix for stream, prefix in _PREFIXES.items() if stream not in streams)
        kept = {name: value for name, value in snippets.items() if not name.startswith(others)}
        restricted["snippets"] = _with_sizes(kept, {stream: _sizes(snippets, stream) for stream in streams})
    return restricted


def _sizes(snippets: Mapping[str, Any], stream: str) -> dict[str, int]:
    """Side of the crops of a stream and the sizes that its frames are scaled to, as the video reader computes them."""
    sizes = {name: snippets[name] for name in _SIZES if isinstance(snippets.get(name), int)}
    entries = snippets.get("stream_crops")
    crops = dict(str(entry).partition("=")[::2] for entry in entries) if isinstance(entries, list | tuple) else {}
    crop = crops.get(stream, "")
    if not crop.isdecimal() or not sizes.get("crop"):
        return sizes
    return {name: round(size * int(crop) / sizes["crop"]) for name, size in sizes.items()}


def _with_sizes(snippets: Mapping[str, Any], sizes: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Snippet options with the sizes of each stream: those of the largest crop, and the crops that differ."""
    rest = {name: value for name, value in snippets.items() if name not in (*_SIZES, "stream_crops")}
    sized = {stream: each for stream, each in sorted(sizes.items()) if "crop" in each}
    if not sized:
        return rest
    largest = max(sized.values(), key=lambda each: each["crop"])
    others = [f"{stream}={each['crop']}" for stream, each in sized.items() if each["crop"] != largest["crop"]]
    return {**rest, **largest, **({"stream_crops": others} if others else {})}


def stream_recipe(recipe: Mapping[str, Any], stream: str) -> Recipe:
    """Everything in a recipe that decides the features of one stream."""
    return restrict(recipe, (stream,))


def fingerprints(recipe: Mapping[str, Any], streams: Iterable[str] | None = None) -> dict[str, str]:
    """The fingerprint of each of ``streams`` (default: those of the recipe): sha256 of its part of the recipe."""
    names = streams_of(recipe) if streams is None else streams
    return {stream: fingerprint(stream_recipe(recipe, stream)) for stream in names}


def conflicts(held: Mapping[str, Any], asked: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Fields in which two recipes contradict each other: (dotted name, value held, value asked).

    Streams that only one of them has do not contradict; the part that all streams share must be equal.
    """
    common = streams_of(held).keys() & streams_of(asked).keys()
    fields = differences(restrict(held, common), restrict(asked, common))
    if fields:
        return fields
    combined = combine(held, asked)
    # The sizes that the frames of two streams are scaled to may have no common base.
    for stream in streams_of(combined):
        there = stream_recipe(held if stream in streams_of(held) else combined, stream)
        here = stream_recipe(asked if stream in streams_of(asked) else combined, stream)
        fields += [(f"{name} of {stream}", before, now) for name, before, now in differences(there, here)]
    return fields


def combine(held: Mapping[str, Any], asked: Mapping[str, Any]) -> Recipe:
    """The recipe of a store with the streams of both, which must not contradict each other (:func:`conflicts`)."""
    ours, theirs = streams_of(held), streams_of(asked)
    new = theirs.keys() - ours.keys()
    if not new:
        return dict(held)
    combined: Recipe = {**held, "streams": {**ours, **{stream: theirs[stream] for stream in sorted(new)}}}
    before, added = held.get("snippets"), asked.get("snippets")
    if isinstance(before, Mapping) and isinstance(added, Mapping):
        sizes = {s: _sizes(added if s in new else before, s) for s in combined["streams"]}
        combined["snippets"] = _with_sizes({**added, **before}, sizes)
    return combined


__all__ = ["combine", "conflicts", "fingerprints", "restrict", "stream_recipe", "streams_of"]
