import numpy as np
import pytest
import torch

from ssn_feat.errors import UserError
from ssn_feat.video.network_inputs import crop_boxes, crop_flow, crop_images, resize, scaled_size


@pytest.fixture(scope="module")
def facts(golden):
    return golden("transforms_facts.json")


@pytest.fixture(scope="module")
def pixels(golden):
    return golden("transforms_pixels.npz")


def test_ten_crops_are_those_of_the_original(facts):
    seen = 0
    for case in facts["over_sample"]:
        if case["group_len"] != 1 or case["mode"] != "RGB":
            continue
        width, height = case["image"]
        boxes = crop_boxes(width, height, case["crop"], "ten")
        found = [([b.x, b.y, b.x + case["crop"], b.y + case["crop"]], b.mirrored) for b in boxes]
        assert found == [(out["box"], out["flip"]) for out in case["out"]]
        seen += 1
    assert seen >= 5


def test_scaling_and_centre_crop_are_those_of_the_original(facts):
    for case in facts["scale"]:
        size = scaled_size(*case["image"], case["scale"])
        assert list(size) == case["scaled"]
        box = crop_boxes(*size, case["crop"], "center")[0]
        assert [box.x, box.y] == case["center_crop_xy"]


def test_rgb_pixels(pixels):
    images = torch.from_numpy(pixels["rgb"][..., ::-1].transpose(0, 3, 1, 2).copy())  # BGR
    mean = torch.tensor([104.0, 117.0, 128.0]).repeat(2)[:, None, None]
    center = crop_images(images, crop_boxes(56, 40, 32, "center"), 32)[:, 0].reshape(6, 32, 32) - mean
    np.testing.assert_array_equal(center, pixels["rgb_full"])
    ten = crop_images(images, crop_boxes(56, 40, 24, "ten"), 24)  # (2, 10, 3, 24, 24)
    ten = ten.transpose(0, 1).reshape(10, 6, 24, 24) - mean
    np.testing.assert_array_equal(ten, pixels["rgb_tencrop"].reshape(10, 6, 24, 24))


def test_flow_pixels_and_inversion(pixels):
    stack = torch.from_numpy(pixels["flow"])[None]  # x0 y0 x1 y1
    center = crop_flow(stack, crop_boxes(56, 40, 32, "center"), 32)[0, 0].float() - 128
    np.testing.assert_array_equal(center, pixels["flow_full"])
    ten = crop_flow(stack, crop_boxes(56, 40, 24, "ten"), 24)[0].float() - 128
    np.testing.assert_array_equal(ten, pixels["flow_tencrop"].reshape(10, 4, 24, 24))


@pytest.mark.parametrize(("kind", "side"), [("rgb_scale28", 28), ("rgb_scale_up48", 48), ("flow_scale28", 28)])
def test_smooth_resize_is_that_of_the_original(pixels, kind, side):
    for image, expected in zip(pixels[kind.split("_")[0]], pixels[kind], strict=True):
        found = resize(image, scaled_size(56, 40, side), "smooth")
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_plain_resize_agrees_when_enlarging(pixels):
    for image, expected in zip(pixels["rgb"], pixels["rgb_scale_up48"], strict=True):
        assert np.abs(resize(image, (67, 48)).astype(int) - expected).max() <= 1


def test_resize_to_the_same_size_is_the_same_image():
    image = np.zeros((48, 64, 3), np.uint8)
    assert resize(image, (64, 48)) is image
    assert scaled_size(64, 48, 0) == (64, 48)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match="64x48"):
        crop_boxes(64, 48, 56, "center")


def test_three_crops_lie_along_the_longer_side():
    assert [(box.x, box.y) for box in crop_boxes(340, 256, 224, "three")] == [(0, 16), (58, 16), (116, 16)]
    assert [(box.x, box.y) for box in crop_boxes(256, 340, 224, "three")] == [(16, 0), (16, 58), (16, 116)]
    assert not any(box.mirrored for box in crop_boxes(340, 256, 224, "three"))
