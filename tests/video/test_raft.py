import os

import numpy as np
import pytest
import torch
from films import pictures

from ssn_feat.errors import UserError
from ssn_feat.video import flow, flow_function, raft, to_gray


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    models = pytest.importorskip("torchvision.models.optical_flow")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(models.raft_small(weights=None).state_dict(), path)
    return path


def test_any_size_and_any_batch(weights):
    images = np.stack([to_gray(image) for image in pictures(3, width=141, height=130)])
    both = flow(images[:-1], images[1:], "raft", weights=weights)
    assert both.shape == (2, 2, 130, 141)
    assert both.dtype == torch.float32
    single = torch.cat([flow(images[i : i + 1], images[i + 1 : i + 2], "raft", weights=weights) for i in range(2)])
    torch.testing.assert_close(both, single, rtol=1e-3, atol=1e-3)


def test_weights_are_loaded_once(weights, tmp_path, monkeypatch):
    loaded, load = [], raft.load_raft
    monkeypatch.setattr(raft, "load_raft", lambda path: loaded.append(path) or load(path))
    path = tmp_path / "copy.pth"
    path.write_bytes(weights.read_bytes())
    for _ in range(2):
        flow_function("raft", "cpu", str(path))
    assert loaded == [path]
    path.write_bytes(path.read_bytes())
    os.utime(path, (1, 1))
    flow_function("raft", "cpu", path)
    assert loaded == [path, path]


def test_bad_weights(weights, tmp_path):
    images = np.zeros((1, 128, 128), np.uint8)
    with pytest.raises(UserError, match="needs weights"):
        flow(images, images, "raft")
    with pytest.raises(UserError, match="no weights"):
        flow(images, images, "dis", weights=weights)
    with pytest.raises(UserError, match=r"absent\.pth"):
        flow(images, images, "raft", weights=tmp_path / "absent.pth")
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    with pytest.raises(UserError, match=r"other\.pth is not a state dict"):
        flow(images, images, "raft", weights=other)
    state = torch.load(weights, weights_only=True)
    state.pop(sorted(state)[-1])
    torch.save(state, other)
    with pytest.raises(UserError, match=r"other\.pth does not fit"):
        flow(images, images, "raft", weights=other)
    other.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="cannot read"):
        flow(images, images, "raft", weights=other)
    with pytest.raises(UserError, match="too small"):
        flow(images[:, :100], images[:, :100], "raft", weights=weights)
