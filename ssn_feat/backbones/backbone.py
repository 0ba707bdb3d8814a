"""A network that turns 8-bit pixels into features, for extraction and for fine-tuning."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from ssn_feat.backbones.architecture import Normalisation
from ssn_feat.backbones.folding import channels_last, fold_batch_norm
from ssn_feat.backbones.weights import save_state
from ssn_feat.errors import UserError

Stream = Literal["rgb", "flow", "rgbdiff", "clip"]
Precision = Literal["float32", "bfloat16", "float16"]

STREAM_CHANNELS: dict[str, int] = {"rgb": 3, "flow": 10, "rgbdiff": 15, "clip": 3}
"""Input channels per stream. rgb: one image; flow: five frame pairs as x0 y0 x1 y1 ...; rgbdiff: the differences of
six frames; clip: one image of a clip."""

_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Larger batches are not faster on a CPU: their activations do not fit the cache, and every layer requests blocks over
# 32 MB from the system again (efficientnet_lite0 on one thread: 67 images/s with batch size 4, 50 with 16).
_CPU_BATCH = 4


class Backbone:
    """Maps pixels of snippets to features, including normalisation.

    Use ``backbone(pixels)`` for extraction. For fine-tuning, load it with ``trainable=True`` and use
    ``backbone.module(backbone.preprocess(pixels))``; then :meth:`inference` returns the fast form and :meth:`save`
    writes the weights to a file.
    """

    def __init__(
        self,
        name: str,
        stream: str,
        module: nn.Module,
        feature_dim: int,
        input_size: int,
        normalisation: Normalisation,
        weights_sha256: str,
        clip_length: int | None = None,
        trainable: bool = True,
        precision: Precision = "float32",
    ) -> None:
        check_stream(stream)
        self.name = name
        """The specification that the backbone was loaded from, e.g. ``bninception``."""
        self.stream = stream
        """``rgb``, ``flow``, ``rgbdiff`` or ``clip``."""
        self.module = module
        """Maps normalised float32 (B, C, H, W) (clips: (B, C, T, H, W)) to (B, D)."""
        self.feature_dim = feature_dim
        """Feature dimension D."""
        self.input_size = input_size
        """Height and width of the input, in pixels."""
        self.channels = STREAM_CHANNELS[stream]
        """Number of channels C of the module's input."""
        self.clip_length = clip_length
        """Number of frames T of a video model, else None."""
        self.normalisation = normalisation
        """Normalisation of this stream's pixels."""
        self.weights_sha256 = weights_sha256
        """SHA-256 of the weights file, or of names and values if there is no file. Training does not update it."""
        self.trainable = trainable
        """False once batch norm is folded into the convolutions."""
        self.precision = precision
        """Precision of the module's computation; features are always float32."""
        self._kept_statistics: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of :attr:`module`: (C, H, W), or (C, T, H, W) for a video model."""
        clip = () if self.clip_length is None else (self.clip_length,)
        return (self.channels, *clip, self.input_size, self.input_size)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """Shape of the pixels of one input: :attr:`input_shape`, with one more frame for frame differences."""
        if self.stream != "rgbdiff":
            return self.input_shape
        return (self.channels + 3, *self.input_shape[1:])

    def preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the normalised input of :attr:`module`.

        ``pixels``: uint8 (B, C, H, W), or (B, C, T, H, W) for a video model. Channels are BGR, or flow where 128 is no
        motion (flow may also be float32 on the same scale). For rgbdiff, they are the BGR channels of consecutive
        frames; neighbouring frames are subtracted, which cancels the mean. Returns (B, *input_shape) on the backbone's
        device, in its precision. Raises UserError for another dtype or shape.
        """
        self._check(pixels)
        pixels = self._moved(pixels)
        mean, std = self._statistics(pixels.device)
        if self.stream == "rgbdiff":
            frames = pixels.unflatten(1, (-1, 3))
            frames = frames.flip(2) if self.normalisation.order == "rgb" else frames
            differences: torch.Tensor = frames.to(torch.float32).diff(dim=1).div_(std).flatten(1, 2)
            return differences.to(_DTYPES[self.precision], memory_format=torch.channels_last)
        if self.stream != "flow" and self.normalisation.order == "rgb":
            pixels = pixels.flip(1)
        layout = torch.channels_last
        if self.clip_length is not None:
            layout, mean, std = torch.channels_last_3d, mean[..., None], std[..., None]
        normalised = pixels.to(torch.float32, memory_format=layout, copy=True)
        return normalised.sub_(mean).div_(std).to(_DTYPES[self.precision])

    def _statistics(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and std, (1, 1, 1) or (C, 1, 1), cached on the device because a new tensor would synchronise."""
        if self._kept_statistics is None or self._kept_statistics[0].device != device:
            mean, std = (
                torch.tensor(values, device=device).reshape(-1, 1, 1)
                for values in (self.normalisation.mean, self.normalisation.std)
            )
            self._kept_statistics = mean, std
        return self._kept_statistics

    def _moved(self, pixels: torch.Tensor) -> torch.Tensor:
        """Move ``pixels`` to the backbone's device; pinned memory makes the copy asynchronous."""
        if self.device.type == "cuda" and pixels.device.type == "cpu":
            pixels = pixels.pin_memory()
        return pixels.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map pixels, as in :meth:`preprocess`, to features: float32 (B, D) on the backbone's device.

        B can be any size; a CPU processes a few inputs at a time. Sets :attr:`module` to evaluation mode. Raises
        UserError for pixels of another dtype or shape.
        """
        self._check(pixels)
        if len(pixels) == 0:
            return torch.zeros((0, self.feature_dim), device=self.device)
        self.module.eval()
        chunks = pixels.split(_CPU_BATCH) if self.device.type == "cpu" else (pixels,)
        features = torch.cat([self.module(self.preprocess(chunk)) for chunk in chunks])
        if features.shape != (len(pixels), self.feature_dim):
            raise UserError(
                f"the backbone {self.name} gave features of shape {tuple(features.shape)} for {len(pixels)} inputs, "
                f"not ({len(pixels)}, {self.feature_dim})"
            )
        return features.float()

    def _check(self, pixels: torch.Tensor) -> None:
        fine = pixels.dtype == torch.uint8 or (self.stream == "flow" and pixels.dtype == torch.float32)
        if not fine or tuple(pixels.shape[1:]) != self.pixel_shape:
            raise UserError(
                f"the {self.stream} backbone {self.name} takes uint8 pixels of shape (B, {str(self.pixel_shape)[1:]}, "
                f"not {str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}"
            )

    def inference(self, check: bool = False, precision: Precision = "float32", compiled: bool = False) -> Backbone:
        """Return a fast copy for extraction on the same device: batch norm folded, channels last, no gradients.

        ``check``: compare the folded network with the plain one on one input and keep the plain one if they differ.
        ``precision``: precision of the copy. ``compiled``: use torch.compile; the first call takes about a minute.
        """
        example = None
        if check:
            generator = torch.Generator().manual_seed(0)
            example = torch.randn((2, *self.input_shape), generator=generator).to(self.device)
        module = channels_last(fold_batch_norm(self.module, example).requires_grad_(False).to(_DTYPES[precision]))
        if compiled:
            module.compile()
        return Backbone(
            self.name,
            self.stream,
            module,
            self.feature_dim,
            self.input_size,
            self.normalisation,
            self.weights_sha256,
            self.clip_length,
            trainable=False,
            precision=precision,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Return a copy of the current weights on the CPU. Raises UserError for the folded inference form."""
        if not self.trainable:
            raise UserError(
                f"batch norm is folded in this {self.name}: load it with trainable=True to save its weights"
            )
        return {name: value.detach().cpu().clone().contiguous() for name, value in self.module.state_dict().items()}

    def save(self, path: Path | str) -> None:
        """Write the weights to a file that ``load_backbone(name, stream, weights=path)`` reads back bit for bit."""
        save_state(Path(path), self.state(), {"backbone": self.name, "stream": self.stream})

    def recipe(self) -> dict[str, Any]:
        """Return all settings of the backbone that determine feature values, as plain values."""
        normalisation = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.normalisation).items()}
        recipe = {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "channels": self.channels,
            "clip_length": self.clip_length,
            "input_size": self.input_size,
            "normalisation": normalisation,
        }
        return recipe if self.precision == "float32" else {**recipe, "precision": self.precision}

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, {self.stream!r}, feature_dim={self.feature_dim}, device={str(self.device)!r})"


def check_stream(stream: str) -> None:
    """Raise UserError for an unknown stream."""
    if stream not in get_args(Stream):
        raise UserError(f"unknown stream {stream!r}: {' or '.join(get_args(Stream))}")
