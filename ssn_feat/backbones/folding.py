"""Speed up inference: fold batch norm into the preceding convolution and use channels-last memory."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights


class _Tracer(fx.Tracer):
    """Treats convolutions as leaves even if a package subclasses them (e.g. for TensorFlow-style padding)."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _ConvNd | _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norm(module: nn.Module, example: torch.Tensor | None = None) -> nn.Module:
    """Return a copy of ``module`` in evaluation mode with each batch norm folded into the preceding convolution.

    The outputs equal the original's up to float32 rounding (1e-4 of the largest value). A module that
    :mod:`torch.fx` cannot trace is copied unchanged. With ``example`` (an input), the folded network is returned only
    if it gives the same output for it: tracing silently freezes a branch that depends on anything but the input.
    """
    plain = copy.deepcopy(module).eval()
    try:
        graph = _Tracer().trace(plain)
    except Exception:  # tracing runs the module's code on proxies and may raise anything; the plain module still works
        return plain
    folded = fx.GraphModule(copy.deepcopy(plain), graph)
    for before, after in _foldable(folded):
        _fold(folded.get_submodule(str(before.target)), folded.get_submodule(str(after.target)))
        after.replace_all_uses_with(before)
        folded.graph.erase_node(after)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded if example is None or _same(plain, folded, example) else plain


def _foldable(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Return pairs of graph nodes (convolution, batch norm of its output) that nothing else uses."""
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    pairs = []
    for after in traced.graph.nodes:
        before = after.args[0] if after.op == "call_module" and after.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        convolution, norm = traced.get_submodule(str(before.target)), traced.get_submodule(str(after.target))
        if not isinstance(convolution, _ConvNd) or not isinstance(norm, _BatchNorm) or convolution.transposed:
            continue
        used_once = calls[before.target] == calls[after.target] == 1 and len(before.users) == 1
        if used_once and norm.running_var is not None:  # without running statistics, the norm uses the batch
            pairs.append((before, after))
    return pairs


def _fold(convolution: Any, norm: Any) -> None:
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


@torch.inference_mode()
def _same(plain: nn.Module, folded: nn.Module, example: torch.Tensor) -> bool:
    expected, actual = plain(example), folded(example)
    return expected.shape == actual.shape and bool((expected - actual).abs().max() <= 1e-4 * expected.abs().max())


def channels_last(module: nn.Module) -> nn.Module:
    """Convert the kernels of all convolutions to channels-last memory format, in place.

    With channels-last input and kernels, bninception is 1.4 times and s3d twice as fast as with contiguous ones.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            layout = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=layout)
    return module
