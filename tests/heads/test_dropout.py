"""The statistics, the seeding and the gradient of the cheap dropout."""

import numpy as np
import pytest
import torch

from ssn_feat.heads.dropout import dropout, unscaled_dropout_


@pytest.mark.parametrize("probability", [0.8, 0.5, 0.1, 0.001, 0.999])
@pytest.mark.parametrize("gradient", [False, True])
def test_share_kept_and_mean_preserved(probability, gradient):
    n = 1_000_003
    x = torch.ones(n, requires_grad=gradient)
    y = dropout(x, probability, torch.Generator().manual_seed(1)).detach()
    kept = y != 0
    assert kept.float().mean() == pytest.approx(1 - probability, abs=5 * np.sqrt(probability * (1 - probability) / n))
    assert len(y[kept].unique()) == 1
    assert y[kept][0].item() == pytest.approx(1 / (1 - probability), rel=1e-6)


def test_elements_are_independent():
    y = dropout(torch.ones(4096, 64), 0.8, torch.Generator().manual_seed(2)) != 0
    counts = y.float().mean(0)
    assert (counts - 0.2).abs().max() < 5 * np.sqrt(0.16 / 4096)
    # Neighbours share a draw of the generator: their masks must not be correlated.
    correlation = np.corrcoef(y.float().T.numpy()) - np.eye(64)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(4096)


def test_values_far_apart_are_independent_two_by_two():
    count, draws = 10 * 1024, 400
    generator = torch.Generator().manual_seed(8)
    kept = np.stack([(dropout(torch.ones(count), 0.5, generator) != 0).numpy() for _ in range(draws)])
    # The same place in each of the ten parts: six of them are made from the other four.
    parts = kept.reshape(draws, 10, 1024)[:, :, ::64].astype(float) - 0.5
    for one in range(10):
        for other in range(one):
            products = 4 * (parts[:, one] * parts[:, other]).mean()
            assert abs(products) < 5.5 / np.sqrt(draws * 16)


def test_generator_decides_the_mask():
    x = torch.randn(7, 3, 5)
    first, second = (dropout(x, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(dropout(x, 0.5, generator), first)
    assert not torch.equal(dropout(x, 0.5, generator), first)
    torch.manual_seed(4)
    third = dropout(x, 0.5)
    torch.manual_seed(4)
    assert torch.equal(dropout(x, 0.5), third)


def test_gradient_passes_where_kept_and_equals_the_plain_way():
    x = torch.randn(50, 40)
    plain = dropout(x, 0.7, torch.Generator().manual_seed(5))
    tracked = x.clone().requires_grad_()
    y = dropout(tracked, 0.7, torch.Generator().manual_seed(5))
    torch.testing.assert_close(y.detach(), plain, rtol=1e-6, atol=0)
    y.sum().backward()
    torch.testing.assert_close(tracked.grad * x, plain, rtol=1e-6, atol=1e-7)


def test_input_is_left_alone_and_half_stays_half():
    x = torch.ones(1000)
    dropout(x, 0.9)
    assert torch.equal(x, torch.ones(1000))
    assert dropout(x.half(), 0.5).dtype == torch.float16
    assert dropout(x.bfloat16(), 0.5).dtype == torch.bfloat16
    assert dropout(x, 0) is x
    assert dropout(torch.empty(0, 9, 4), 0.8).shape == (0, 9, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_thinning_in_place_is_dropout_without_its_scale(dtype):
    x = torch.randn(37, 100).to(dtype)
    expected = dropout(x, 0.8, torch.Generator().manual_seed(6))
    thinned, scale = unscaled_dropout_(x, 0.8, torch.Generator().manual_seed(6))
    assert thinned is x
    assert (x != 0).float().mean() == pytest.approx(0.2, abs=0.05)
    torch.testing.assert_close(x.double() * scale, expected.double(), rtol=1e-2, atol=0)
    assert unscaled_dropout_(x, 0.0) == (x, 1.0)
