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
"""Channels that a stream's network takes: one image; the flow of five frame pairs as x0 y0 x1 y1 ...; the differences
of six frames; one image of a clip."""

_DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# Larger batches are no faster on a CPU: their activations leave the cache, and blocks beyond 32 MB come from the system
# anew for every layer (efficientnet_lite0 on one thread: 67 images/s in fours, 50 in sixteens).
_CPU_BATCH = 4


class Backbone:
    """Pixels of snippets to features, normalisation included.

    ``backbone(pixels)`` is for extraction. For fine-tuning, load it with ``trainable=True`` and use
    ``backbone.module(backbone.preprocess(pixels))``; then :meth:`inference` gives the fast form and :meth:`save` a file
    of weights.
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
        """The specification that it was loaded by, e.g. ``bninception``."""
        self.stream = stream
        """``rgb``, ``flow``, ``rgbdiff`` or ``clip``."""
        self.module = module
        """Maps normalised float32 (B, C, H, W) (clips: (B, C, T, H, W)) to (B, D)."""
        self.feature_dim = feature_dim
        """D."""
        self.input_size = input_size
        """Height and width of the input, pixels."""
        self.channels = STREAM_CHANNELS[stream]
        """C, of the module's input."""
        self.clip_length = clip_length
        """T of a video model, else None."""
        self.normalisation = normalisation
        """Of this stream's pixels."""
        self.weights_sha256 = weights_sha256
        """Of the file of weights, or of names and values where there is no file; training does not change it."""
        self.trainable = trainable
        """False once batch norm is folded into the convolutions."""
        self.precision = precision
        """What the module computes in; features come out as float32."""
        self._kept_statistics: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of :attr:`module`: (C, H, W), or (C, T, H, W) for a video model."""
        clip = () if self.clip_length is None else (self.clip_length,)
        return (self.channels, *clip, self.input_size, self.input_size)

    @property
    def pixel_shape(self) -> tuple[int, ...]:
        """Shape of the pixels of one input: :attr:`input_shape`, with one frame more for differences of frames."""
        if self.stream != "rgbdiff":
            return self.input_shape
        return (self.channels + 3, *self.input_shape[1:])

    def preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised input of :attr:`module`.

        ``pixels``: uint8 (B, C, H, W), (B, C, T, H, W) for a video model; BGR, or flow where 128 is no motion (also
        float32, on the same scale); for rgbdiff BGR of one frame after the other, of which neighbours are subtracted
        (so that no mean is left). Returns (B, *input_shape) on the backbone's device, in its precision. Raises
        UserError for another dtype or shape.
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
        own = pixels.to(torch.float32, memory_format=layout, copy=True)
        return own.sub_(mean).div_(std).to(_DTYPES[self.precision])

    def _statistics(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std, (1, 1, 1) or (C, 1, 1); kept on the device, for which each new tensor would be waited for."""
        if self._kept_statistics is None or self._kept_statistics[0].device != device:
            mean, std = (
                torch.tensor(values, device=device).reshape(-1, 1, 1)
                for values in (self.normalisation.mean, self.normalisation.std)
            )
            self._kept_statistics = mean, std
        return self._kept_statistics

    def _moved(self, pixels: torch.Tensor) -> torch.Tensor:
        """``pixels`` on the backbone's device; the host need not wait for a copy from pinned memory."""
        if self.device.type == "cuda" and pixels.device.type == "cpu":
            pixels = pixels.pin_memory()
        return pixels.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features of snippets: pixels as in :meth:`preprocess` -> float32 (B, D) on the backbone's device.

        Any B: a CPU takes a few inputs at a time. Puts :attr:`module` in evaluation mode. Raises UserError for pixels
        of another dtype or shape.
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
        """A fast copy for extraction: batch norm folded, channels last, no gradients; the same device.

        ``check`` runs the folded network once against the plain one and keeps the plain one where they differ.
        ``precision``: what the copy computes in. ``compiled``: by torch.compile, which takes a minute or so at first.
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
        """The weights as they are now, on the CPU. Raises UserError for the folded form of inference."""
        if not self.trainable:
            raise UserError(
                f"batch norm is folded in this {self.name}: load it with trainable=True to save its weights"
            )
        return {name: value.detach().cpu().clone().contiguous() for name, value in self.module.state_dict().items()}

    def save(self, path: Path | str) -> None:
        """Write the weights to a file that ``load_backbone(name, stream, weights=path)`` reads back bit by bit."""
        save_state(Path(path), self.state(), {"backbone": self.name, "stream": self.stream})

    def recipe(self) -> dict[str, Any]:
        """All of the backbone that decides a feature's value, as plain values."""
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
    """Raises UserError for an unknown stream."""
    if stream not in get_args(Stream):
        raise UserError(f"unknown stream {stream!r}: {' or '.join(get_args(Stream))}")
