"""Crops and mirroring of training pictures are those of the original."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from ssn_feat.errors import UserError
from ssn_feat.finetuning.augmentation import (
    SCALES,
    AugmentationOptions,
    Variation,
    crop_places,
    crop_sizes,
    draw_variation,
    vary,
)


def test_sizes_and_places_of_crops(golden) -> None:
    cases = golden("transforms_facts.json")["multi_scale"]
    for case in cases:
        width, height = case["image"]
        stream = case["modality"].lower()
        assert list(SCALES[stream]) == case["scales"]
        sizes = crop_sizes(width, height, case["input_size"], SCALES[stream])
        assert [list(size) for size in sizes] == case["crop_pairs_wh"]
        places = {f"{w}x{h}": [list(place) for place in crop_places(width, height, (w, h))] for w, h in sizes}
        if "offsets_by_pair_xy" in case:
            assert places == case["offsets_by_pair_xy"]
        else:
            digest = hashlib.sha256(json.dumps(places, sort_keys=True).encode()).hexdigest()
            assert digest == case["offsets_sha256"]


def test_pixels_of_a_scaled_crop(golden) -> None:
    pixels = golden("transforms_pixels.npz")
    size = crop_sizes(56, 40, 24, (1.0, 0.875))[0]
    variation = Variation(*crop_places(56, 40, size)[0], *size, mirrored=False)
    for picture, expected in zip(pixels["rgb"], pixels["rgb_multiscale_first"], strict=True):
        found = vary(picture, variation, 24, flow=False).transpose(1, 2, 0)
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_mirrored_pixels(golden) -> None:
    pixels = golden("transforms_pixels.npz")
    stack = pixels["flow"].transpose(1, 2, 0)[:40, :40]
    found = vary(stack, Variation(0, 0, 40, 40, True), 40, flow=True).astype(np.float32)
    expected = pixels["flow_flip"][:, :, ::-1][:, :40, :40][:, :, ::-1] + 128
    np.testing.assert_array_equal(found, expected)
    rgb = vary(pixels["rgb"][0][:40, :40], Variation(0, 0, 40, 40, True), 40, flow=False)
    np.testing.assert_array_equal(rgb, pixels["rgb"][0][:40, :40][:, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("options", [AugmentationOptions(), AugmentationOptions("places"), AugmentationOptions("none")])
def test_draws(options: AugmentationOptions) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_variation(340, 256, 224, "rgb", options, rng) for _ in range(2000)]
    assert 900 < sum(each.mirrored for each in drawn) < 1100
    crops = {(each.width, each.height, each.x, each.y) for each in drawn}
    if options.vary == "none":
        assert crops == {(224, 224, 58, 16)}
    elif options.vary == "places":
        assert len(crops) == 13
    else:
        pairs = crop_sizes(340, 256, 224, SCALES["rgb"])
        assert crops == {(*pair, *place) for pair in pairs for place in crop_places(340, 256, pair)}
    assert all(x + w <= 340 and y + h <= 256 for w, h, x, y in crops)


def test_pictures_smaller_than_the_input_are_refused() -> None:
    with pytest.raises(UserError, match="images of 200x100 are smaller than the network's input of 224"):
        draw_variation(200, 100, 224, "rgb", AugmentationOptions(), np.random.default_rng(0))
