"""The recipe of extracted features: made from options and networks, and read back to extract one more video alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.errors import UserError
from ssn_feat.extraction.one_video import check_backbones
from ssn_feat.extraction.options import ExtractOptions
from ssn_feat.store import differences
from ssn_feat.video import SnippetOptions, decoder_versions

# Raised whenever the same options begin to give other values.
VERSION = 1
_FLOW_ONLY = ("flow_method", "flow_bound")
_RGB_ONLY = ("rgb_frame",)


def recipe_of(backbones: Mapping[str, Backbone], options: SnippetOptions, keep_crops: bool = False) -> dict[str, Any]:
    """All that decides the value of features, as plain values. Options of streams that are not extracted are left out.

    Raises UserError where a backbone does not fit the options.
    """
    check_backbones(backbones, options)
    absent = (
        "streams",
        *(() if "flow" in options.streams else _FLOW_ONLY),
        *(() if "rgb" in options.streams else _RGB_ONLY),
    )
    return {
        "extraction": VERSION,
        "decoder": decoder_versions(),
        "snippets": {k: v for k, v in asdict(options).items() if k not in absent},
        "keep_crops": keep_crops,
        "streams": {
            stream: {"backbone": backbones[stream].recipe(), "feature_dim": backbones[stream].feature_dim}
            for stream in sorted(options.streams)
        },
    }


def snippet_options_of(recipe: Mapping[str, Any]) -> SnippetOptions:
    """The options that a recipe was made from. Raises UserError for a recipe that is not one of extraction."""
    known = {field.name for field in fields(SnippetOptions)}
    try:
        return SnippetOptions(
            streams=tuple(recipe["streams"]), **{k: v for k, v in recipe["snippets"].items() if k in known}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the features were not extracted from videos by this program (recipe lacks {error}): "
            "features of one more video cannot be made alike"
        ) from None


def load_backbones(options: ExtractOptions) -> dict[str, Backbone]:
    """The backbones that ``options`` name, one per stream, on their device."""
    return {
        str(stream): load_backbone(
            options.backbone, stream, options.weights_of(stream), options.device, input_size=options.input_size
        )
        for stream in options.streams
    }


def backbones_of(
    recipe: Mapping[str, Any], weights: Mapping[str, str | None] | None = None, device: str = "cpu"
) -> dict[str, Backbone]:
    """The backbones of a recipe, so that one more video can be extracted alike.

    ``weights``: per stream what :func:`ssn_feat.backbones.load_backbone` takes. A recipe holds the weights' sha256, not
    the weights. Raises UserError, naming what differs, where the result would not have the same recipe.
    """
    options = snippet_options_of(recipe)
    backbones = {
        str(stream): load_backbone(
            recipe["streams"][stream]["backbone"]["name"],
            stream,
            (weights or {}).get(stream),
            device,
            input_size=recipe["streams"][stream]["backbone"]["input_size"],
        )
        for stream in options.streams
    }
    found = differences(recipe, recipe_of(backbones, options, bool(recipe.get("keep_crops"))))
    if found:
        changed = "; ".join(f"{name} was {held} and is {asked}" for name, held, asked in found)
        raise UserError(f"features of this video would not be like those that were trained on: {changed}")
    return backbones
