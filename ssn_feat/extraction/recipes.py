"""The recipe of extracted features: made from options and networks, and read back to extract another video alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssn_feat.backbones import Backbone, load_backbone, require_trusted
from ssn_feat.cli import from_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_video import check_backbones
from ssn_feat.files import file_sha256
from ssn_feat.store.recipe import Recipe, differences, plain_recipe
from ssn_feat.video import ResolvedSnippets, decoder_versions

# Incremented whenever the same options give other values than before.
# 2: PyAV decodes, and times are those of a player instead of counting from the first frame.
VERSION = 2
_DEFAULTS = ResolvedSnippets()


def recipe_of(
    backbones: Mapping[str, Backbone], options: ResolvedSnippets, keep_crops: bool = False, fps: float | None = None
) -> Recipe:
    """Everything that decides the value of features, as plain values. Options without effect are left out.

    ``fps``: frame rate of folders of images. Raises UserError if a backbone does not fit the options.
    """
    check_backbones(backbones, options)
    recipe: Recipe = {
        "extraction": VERSION,
        "decoder": decoder_versions(),
        "snippets": _snippets(options),
        "keep_crops": keep_crops,
        "streams": {
            stream: {"backbone": backbones[stream].recipe(), "feature_dim": backbones[stream].feature_dim}
            for stream in sorted(options.streams)
        },
    }
    return recipe if fps is None else {**recipe, "fps_of_images": fps}


def _snippets(options: ResolvedSnippets) -> dict[str, Any]:
    """The options as plain values, without those that have no effect; the weights of flow by their hash."""
    values = asdict(options)
    unused = ["streams"]
    if "flow" not in options.streams:
        unused += [name for name in values if name.startswith("flow_")]
    if "rgb" not in options.streams:
        unused.append("rgb_frame")
    if "clip" not in options.streams:
        unused += ["clip_length", "clip_step"]
    rare = ("nominal_fps", "stream_crops", "flow_quantised", "video_stream")
    unused += [name for name in rare if name not in unused and values[name] == getattr(_DEFAULTS, name)]
    if options.flow_weights:
        values["flow_weights"] = file_sha256(Path(options.flow_weights))
    return {name: value for name, value in values.items() if name not in unused}


def snippet_options_of(recipe: Mapping[str, Any], flow_weights: str = "") -> ResolvedSnippets:
    """The options that a recipe was made from; ``flow_weights`` is the file whose hash it holds, where it holds one.

    Raises UserError for a recipe of imported features, and for options that this version no longer has.
    """
    if recipe.get("extraction", VERSION) != VERSION:
        raise UserError(
            "the features were extracted with another decoder and clock (times counted from the first frame), so "
            "features of another video would differ: extract them again"
        )
    values = {**recipe.get("snippets", {}), "streams": list(recipe.get("streams", ()))}
    if flow_weights:
        values["flow_weights"] = flow_weights
    try:
        return from_dict(ResolvedSnippets, values, "recipe")
    except UserError as error:
        raise UserError(
            f"the features were not extracted from videos by this program ({error}), so the features of another video "
            "cannot be extracted alike"
        ) from None


def load_backbones(options: ExtractOptions, device: str | None = None) -> dict[str, Backbone]:
    """The backbones that ``options`` name, one per stream, on ``device`` (their first one if None)."""
    assert options.precision != "auto", "defaults are filled in before networks are loaded"
    return {
        str(stream): load_backbone(
            options.backbone_of(stream),
            stream,
            options.weights_of(stream),
            device or options.device[0],
            input_size=options.snippets.crop_of(stream) or None,
            precision=options.precision,
            compiled=options.compile,
        )
        for stream in options.snippets.streams
    }


def backbones_of(
    recipe: Mapping[str, Any],
    weights: Mapping[str, str | None] | None = None,
    device: str = "cpu",
    flow_weights: str = "",
    trusted: Collection[str] = (),
) -> dict[str, Backbone]:
    """The backbones of a recipe, so that another video can be extracted alike.

    ``weights``: per stream the argument of :func:`ssn_feat.backbones.load_backbone`; a recipe holds the sha256 of the
    weights, not the weights. ``trusted``: a ``package.module:callable`` that the recipe names is imported only if it is
    among these. On a CPU, which is slow at half precision, the networks always compute in float32.
    Raises UserError, naming what differs, where the result would not have the same recipe.
    """
    options = snippet_options_of(recipe, flow_weights)
    backbones = {}
    for stream in options.streams:
        held = recipe["streams"][stream]["backbone"]
        require_trusted(held["name"], trusted, "the recipe of the features")
        backbones[str(stream)] = load_backbone(
            held["name"],
            stream,
            (weights or {}).get(stream),
            device,
            input_size=options.crop_of(stream),
            precision=held.get("precision", "float32") if device != "cpu" else "float32",
        )
    alike = recipe_of(backbones, options, bool(recipe.get("keep_crops")), recipe.get("fps_of_images"))
    changes = differences(recipe, plain_recipe(alike))
    if device == "cpu":
        changes = [change for change in changes if not change[0].endswith(".backbone.precision")]
    if changes:
        listed = "; ".join(f"{name} was {before} and is {now}" for name, before, now in changes)
        raise UserError(f"features of this video would differ from those that the model was trained on: {listed}")
    return backbones


__all__ = ["VERSION", "backbones_of", "load_backbones", "recipe_of", "snippet_options_of"]
