import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from films import pictures

from ssn_feat.errors import UserError
from ssn_feat.video import flow, to_gray
from ssn_feat.video.tvl1 import _pyramid, tvl1
from ssn_feat.video.tvl1_state import median_network, median_opencv, warp_gathered, warp_opencv


@pytest.fixture(scope="module")
def reference(shared):
    """Six pairs of real frames and their flow by OpenCV."""
    with np.load(shared / "golden" / "flow" / "tvl1_pairs.npz", allow_pickle=False) as archive:
        expected = torch.from_numpy(archive["flow"].astype(np.float32)).permute(0, 3, 1, 2)
        return archive["prev"], archive["next"], expected


@pytest.fixture(scope="module")
def moving():
    images = np.stack([to_gray(image) for image in pictures(3, width=72, height=56, shift=2)])
    return torch.from_numpy(images[:-1]), torch.from_numpy(images[1:])


def unexplained(prev, next, fields):
    """Mean absolute difference of ``prev`` and ``next`` moved back by the flow, gray levels."""
    height, width = prev.shape[1:]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    back = [
        cv2.remap(image, grid + field.permute(1, 2, 0).numpy(), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for image, field in zip(next, fields, strict=True)
    ]
    return np.abs(np.stack(back).astype(np.float32) - prev).mean()


@pytest.mark.parametrize("method", ["tvl1", "tvl1_fixed"])
def test_real_frames_agree_with_opencv(reference, method):
    prev, next, expected = reference
    found = flow(prev, next, method)
    assert found.shape == expected.shape
    error = (found - expected).norm(dim=1)
    assert error.mean() <= (0.02 if method == "tvl1" else 0.05)
    assert (error > 1).float().mean() <= 0.001
    assert unexplained(prev, next, found) <= 1.02 * unexplained(prev, next, expected)


@pytest.mark.parametrize("method", ["tvl1", "tvl1_fixed"])
@pytest.mark.parametrize("shift", [1, 3])
def test_a_known_translation_of_a_real_frame(reference, method, shift):
    frame = reference[0][2]
    found = flow(frame[None, :, shift:].copy(), frame[None, :, :-shift].copy(), method)[0, :, 16:-16, 16:-16]
    truth = torch.tensor([shift, 0.0])[:, None, None]
    assert (found - truth).norm(dim=0).mean() <= 0.1


@pytest.mark.parametrize("fixed", [False, True])
def test_pairs_do_not_influence_each_other(moving, fixed):
    prev, next = moving
    single = torch.cat([tvl1(prev[i : i + 1], next[i : i + 1], fixed) for i in range(2)])
    torch.testing.assert_close(tvl1(prev, next, fixed), single, rtol=0, atol=1e-4)
    assert tvl1(prev[:0], next[:0], fixed).shape == (0, 2, 56, 72)


@pytest.mark.parametrize("method", ["tvl1", "tvl1_fixed"])
def test_no_motion_is_exactly_zero_also_in_even_areas(moving, method):
    still = moving[0].numpy().copy()
    still[:, 10:30, 10:40] = 77
    assert flow(still, still, method).abs().max() == 0


def test_the_pyramid_has_opencvs_sizes():
    sizes = [tuple(scale.shape[2:]) for scale in _pyramid(torch.zeros(1, 256, 340, dtype=torch.uint8))]
    assert sizes == [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]
    assert [tuple(s.shape[2:]) for s in _pyramid(torch.zeros(1, 20, 40, dtype=torch.uint8))] == [(20, 40), (16, 32)]
    flat = _pyramid(torch.full((1, 37, 53), 7, dtype=torch.uint8))
    assert all(torch.allclose(scale, torch.tensor(7.0)) for scale in flat)


def test_warps_agree(moving):
    images = torch.stack([moving[0], moving[1]], dim=1).float()
    # OpenCV 4 rounds positions to 1/32 of a pixel.
    move = (96 * torch.randn(2, 2, 56, 72, generator=torch.Generator().manual_seed(0))).round() / 32
    torch.testing.assert_close(warp_gathered(images, move), warp_opencv(images, move), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(warp_gathered(images, 0 * move), images, rtol=0, atol=0)
    torch.testing.assert_close(warp_opencv(images, 0 * move), images, rtol=0, atol=0)
    assert warp_gathered(images, move + 200).abs().max() == warp_opencv(images, move + 200).abs().max() == 0


def test_the_median_networks_result_is_the_median():
    planes = torch.randn(2, 2, 17, 23, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    torch.testing.assert_close(median_network(planes), median_opencv(planes), rtol=0, atol=0)


def test_images_too_small():
    with pytest.raises(UserError, match="9x20"):
        flow(np.zeros((1, 20, 9), np.uint8), np.zeros((1, 20, 9), np.uint8), "tvl1")


# Small images and blocks: Triton's interpreter takes seconds for a sort.
KERNELS = """
import torch
from ssn_feat.video import tvl1_kernels
from ssn_feat.video.tvl1_state import State
tvl1_kernels._MEDIAN_BLOCK = 16
torch.manual_seed(0)
u = torch.randn(1, 2, 3, 5)
plain, kernels = State(u.clone()), tvl1_kernels.KernelState(u.clone())
for name in ("dual_x", "dual_y", "residual", "descent", "gradient"):
    values = torch.randn_like(getattr(plain, name))
    getattr(plain, name).copy_(values), getattr(kernels, name).copy_(values)
images, move = torch.randn(2, 3, 4, 5), (64 * torch.randn(2, 2, 4, 5)).round() / 32
torch.testing.assert_close(kernels.warp(images, move), plain.warp(images, move), rtol=1e-5, atol=1e-5)
torch.testing.assert_close(kernels.warp(images, 0 * move), images, rtol=0, atol=0)
plain.median(), kernels.median()
torch.testing.assert_close(kernels.u, plain.u, rtol=0, atol=0)
for _ in range(3):
    plain.step(), kernels.step()
    for name in ("u", "dual_x", "dual_y"):
        torch.testing.assert_close(getattr(kernels, name), getattr(plain, name), rtol=1e-5, atol=1e-5)
    assert abs(plain.squared_change() - kernels.squared_change()) < 1e-3
"""


def test_the_gpus_kernels_compute_the_same():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run([sys.executable, "-c", KERNELS], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(reference):
    prev, next, expected = reference
    for method in ("tvl1", "tvl1_fixed"):
        found = flow(prev, next, method, device="cuda")
        assert found.is_cuda
        assert (found.cpu() - flow(prev, next, method)).norm(dim=1).mean() < 0.02
        assert (found.cpu() - expected).norm(dim=1).mean() <= 0.05
    twice = np.concatenate([prev, prev]), np.concatenate([next, next])
    many = flow(*twice, "tvl1_fixed", device="cuda")
    torch.testing.assert_close(many[:6], many[6:], rtol=0, atol=0)
