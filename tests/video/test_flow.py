import cv2
import numpy as np
import pytest
import torch
from films import pictures

from ssn_feat.errors import UserError
from ssn_feat.video import dequantise_flow, flow, quantise_flow, to_gray


@pytest.fixture(scope="module")
def moving():
    images = np.stack([to_gray(image) for image in pictures(4, width=128, height=96, shift=3)])
    return images[:-1], images[1:]


@pytest.mark.parametrize(("method", "error"), [("dis", 0.3), ("farneback", 0.6)])
def test_a_known_shift(moving, method, error):
    found = flow(*moving, method)
    assert found.shape == (3, 2, 96, 128)
    assert found.dtype == torch.float32
    inner = found[:, :, 16:-16, 16:-16]
    assert (inner[:, 0] - 3).abs().mean() < error
    assert inner[:, 1].abs().mean() < error


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_pairs_do_not_influence_each_other(moving, method):
    prev, next = moving
    single = torch.cat([flow(prev[i : i + 1], next[i : i + 1], method) for i in range(3)])
    torch.testing.assert_close(flow(prev, next, method), single, rtol=0, atol=0)


def test_no_motion_is_zero(moving):
    assert quantise_flow(flow(moving[0], moving[0], "dis")).unique().tolist() == [128]
    assert flow(moving[0], moving[0], "farneback").abs().mean() < 0.1


def test_opencv_threads_do_not_change_the_result(moving):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = flow(*moving, "dis")
        cv2.setNumThreads(4)
        torch.testing.assert_close(flow(*moving, "dis"), one, rtol=0, atol=0)
    finally:
        cv2.setNumThreads(before)


def test_quantisation():
    field = torch.tensor([-30.0, -20.0, -0.1, 0.0, 0.1, 19.99, 20.0, 1e9])
    assert quantise_flow(field).tolist() == [0, 0, 127, 128, 128, 255, 255, 255]
    levels = torch.arange(256, dtype=torch.uint8)
    torch.testing.assert_close(quantise_flow(dequantise_flow(levels)), levels)
    values = torch.linspace(-20, 20, 1001)
    assert (dequantise_flow(quantise_flow(values)) - values).abs().max() <= 20 / 255 + 1e-5
    torch.testing.assert_close(quantise_flow(values / 2, bound=10), quantise_flow(values))


def test_bad_input(moving):
    prev, next = moving
    with pytest.raises(UserError, match="equal shape"):
        flow(prev, next[:2])
    with pytest.raises(UserError, match="uint8"):
        flow(prev.astype(np.float32), next.astype(np.float32))
    with pytest.raises(UserError, match="nosuch"):
        flow(prev, next, "nosuch")
    with pytest.raises(UserError, match="too small"):
        flow(prev[:, :8], next[:, :8])
