"""The recipe of extracted features: made from options and networks, and read back to extract one more video alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssn_feat.backbones import Backbone, load_backbone, require_trusted
from ssn_feat.backbones.weights import file_sha256
from ssn_feat.cli import from_dict
from ssn_feat.errors import UserError
from ssn_feat.extraction.extract_options import ExtractOptions
from ssn_feat.extraction.extract_video import check_backbones
from ssn_feat.store.recipe import Recipe, differences, plain_recipe
from ssn_feat.video import SnippetOptions, decoder_versions

# Raised whenever the same options begin to give other values.
VERSION = 1
_PLAIN = SnippetOptions()


def recipe_of(
    backbones: Mapping[str, Backbone], options: SnippetOptions, keep_crops: bool = False, fps: float | None = None
) -> Recipe:
    """All that decides the value of features, as plain values. Options that decide nothing here are left out.

    ``options``: resolved. ``fps`` is that of folders of images. Raises UserError where a backbone does not fit the
    options.
    """
    check_backbones(backbones, options)
    recipe: Recipe = {
        "extraction": VERSION,
        "decoder": decoder_versions(options.decoder),
        "snippets": _snippets(options),
        "keep_crops": keep_crops,
        "streams": {
            stream: {"backbone": backbones[stream].recipe(), "feature_dim": backbones[stream].feature_dim}
            for stream in sorted(options.streams)
        },
    }
    return recipe if fps is None else {**recipe, "fps_of_images": fps}


def _snippets(options: SnippetOptions) -> dict[str, Any]:
    """The options as plain values, without those that decide nothing; the weights of flow by their hash."""
    values = asdict(options)
    unused = ["streams"]
    if "flow" not in options.streams:
        unused += [name for name in values if name.startswith("flow_") and name != "flow_length"]
    if "rgb" not in options.streams:
        unused.append("rgb_frame")
    if "clip" not in options.streams:
        unused += ["clip_length", "clip_step"]
    # Left out at their defaults: stores made before these options were there go on.
    late = ("nominal_fps", "stream_crops", "decoder", "flow_quantised")
    unused += [name for name in late if name not in unused and values[name] == getattr(_PLAIN, name)]
    if options.flow_weights:
        values["flow_weights"] = file_sha256(Path(options.flow_weights))
    return {name: value for name, value in values.items() if name not in unused}


def snippet_options_of(recipe: Mapping[str, Any], flow_weights: str = "") -> SnippetOptions:
    """The options that a recipe was made from; ``flow_weights`` is the file whose hash it holds, where it holds one.

    Raises UserError for a recipe that is not one of extraction.
    """
    values = {**recipe.get("snippets", {}), "streams": list(recipe.get("streams", ()))}
    if flow_weights:
        values["flow_weights"] = flow_weights
    try:
        return from_dict(SnippetOptions, values, "recipe")
    except UserError as error:
        raise UserError(
            f"the features were not extracted from videos by this program ({error}): "
            "features of one more video cannot be made alike"
        ) from None


def load_backbones(options: ExtractOptions, device: str | None = None) -> dict[str, Backbone]:
    """The backbones that ``options`` name, one per stream, on ``device`` (their first one if None)."""
    assert options.precision != "auto", "open options are settled before networks are loaded"
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
    """The backbones of a recipe, so that one more video can be extracted alike.

    ``weights``: per stream what :func:`ssn_feat.backbones.load_backbone` takes. A recipe holds the weights' sha256, not
    the weights. ``trusted``: the only ``package.module:callable`` that are imported because a recipe names them. On
    a CPU, which is slow at half precision, the networks compute in float32 whatever the recipe says.
    Raises UserError, naming what differs, where the result would not have the same recipe.
    """
    options = snippet_options_of(recipe, flow_weights)
    backbones = {}
    for stream in options.streams:
        made = recipe["streams"][stream]["backbone"]
        require_trusted(made["name"], trusted, "the recipe of the features")
        backbones[str(stream)] = load_backbone(
            made["name"],
            stream,
            (weights or {}).get(stream),
            device,
            input_size=options.crop_of(stream),
            precision=made.get("precision", "float32") if device != "cpu" else "float32",
        )
    alike = recipe_of(backbones, options, bool(recipe.get("keep_crops")), recipe.get("fps_of_images"))
    found = differences(recipe, plain_recipe(alike))
    if device == "cpu":
        found = [each for each in found if not each[0].endswith(".backbone.precision")]
    if found:
        changed = "; ".join(f"{name} was {held} and is {asked}" for name, held, asked in found)
        raise UserError(f"features of this video would not be like those that were trained on: {changed}")
    return backbones
