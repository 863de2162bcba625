"""The registered operators: a masked convolution, two of one batch, and the weights' gradient.

The first and the last are linear in each argument, and the gradients of each are those two again,
so that gradients of any order are at hand.
"""

import torch
from torch.library import define, impl, register_autograd, register_fake

from ... import backends
from ...orderings import opposite
from ._taps import layout

define(
    "fastseg::masked_conv2d",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, int ordering, int dilation,"
    " int groups, bool relu, str backend) -> Tensor",
)
define(
    "fastseg::masked_conv2d_pair",
    "(Tensor x, Tensor weight, Tensor? bias, int first, int second, int dilation, int groups,"
    " bool relu, str backend) -> (Tensor, Tensor)",
)
define(
    "fastseg::masked_conv2d_weight",
    "(Tensor grad, Tensor x, int size, int ordering, int dilation, int groups, str backend)"
    " -> Tensor",
)


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=layout(x))


def _empty(x, weight, ordering, dilation, groups, plain, backend) -> torch.Tensor:
    """A result; `plain` has neither residual nor ReLU."""
    kernel = backends.load("masked_conv2d", x.device, backend)
    if plain and hasattr(kernel, "empty_result"):
        return kernel.empty_result(x, weight, ordering, dilation, groups)
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout(x))


@impl("fastseg::masked_conv2d", ("CPU", "CUDA"))
def _masked_conv2d(x, weight, bias, residual, ordering, dilation, groups, relu, backend):
    if x.numel() == 0:
        return _masked_conv2d_fake(
            x, weight, bias, residual, ordering, dilation, groups, relu, backend
        )
    kernel = backends.load("masked_conv2d", x.device, backend)
    options = ordering, dilation, groups, relu
    with torch.autocast(x.device.type, enabled=False):
        residual = None if residual is None else residual.contiguous(memory_format=layout(x))
        return kernel.masked_conv2d(_dense(x), weight, bias, residual, *options)


@register_fake("fastseg::masked_conv2d")
def _masked_conv2d_fake(x, weight, bias, residual, ordering, dilation, groups, relu, backend):
    plain = residual is None and not relu
    return _empty(x, weight, ordering, dilation, groups, plain, backend)


def _keep(ctx, inputs, output) -> None:
    x, weight, _, _, *ctx.options = inputs
    relu = ctx.options[3]
    ctx.save_for_backward(x, weight, output if relu else None)


def _masked_conv2d_backward(ctx, grad: torch.Tensor):
    x, weight, out = ctx.saved_tensors
    grad = _before_relu(grad, out)
    ordering, dilation, groups, _, backend = ctx.options
    parts = _gradients(ctx, grad, x, weight, ordering, dilation, groups, backend)
    return *parts, grad if ctx.needs_input_grad[3] else None, *([None] * 5)


def _before_relu(grad: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
    return grad if out is None else torch.ops.aten.threshold_backward(grad, out, 0)


def _gradients(ctx, grad, x, weight, *options):
    """Of x, weight and bias, None where nobody asks."""
    of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
    return (
        _of_input(grad, weight, *options) if of_x else None,
        _of_weight(grad, x, weight.shape[2], *options) if of_weight else None,
        grad.sum((0, 2, 3)) if of_bias else None,
    )


def _of_input(grad, weight, ordering, dilation, groups, backend):
    """The gradient of x is a masked convolution, too: the kernel turned by 180°, in the opposite
    ordering, from the outputs to the inputs."""
    (outs, channels), size = weight.shape[:2], weight.shape[2:]
    weight = weight.view(groups, outs // groups, channels, *size).transpose(1, 2).flip(3, 4)
    weight = weight.reshape(groups * channels, outs // groups, *size)
    options = opposite(ordering), dilation, groups, False, backend
    return torch.ops.fastseg.masked_conv2d(grad, weight, None, None, *options)


def _of_weight(grad, x, size, ordering, dilation, groups, backend):
    options = size, ordering, dilation, groups, backend
    return torch.ops.fastseg.masked_conv2d_weight(grad, x, *options)


register_autograd("fastseg::masked_conv2d", _masked_conv2d_backward, setup_context=_keep)


@impl("fastseg::masked_conv2d_weight", ("CPU", "CUDA"))
def _masked_conv2d_weight(grad, x, size, ordering, dilation, groups, backend):
    if x.numel() == 0:
        return _masked_conv2d_weight_fake(grad, x, size, ordering, dilation, groups).zero_()
    kernel = backends.load("masked_conv2d", x.device, backend)
    options = size, ordering, dilation, groups
    with torch.autocast(x.device.type, enabled=False):
        return kernel.masked_conv2d_weight(_dense(grad), _dense(x), *options)


@register_fake("fastseg::masked_conv2d_weight")
def _masked_conv2d_weight_fake(grad, x, size, ordering, dilation, groups, *_):
    return x.new_empty((grad.shape[1], x.shape[1] // groups, size, size))


def _keep_weight(ctx, inputs, output) -> None:
    grad, x, _, *ctx.options = inputs
    ctx.save_for_backward(grad, x)


def _masked_conv2d_weight_backward(ctx, weight: torch.Tensor):
    """Both sides of what is linear in each."""
    grad, x = ctx.saved_tensors
    of_grad = of_x = None
    ordering, dilation, groups, backend = ctx.options
    if ctx.needs_input_grad[0]:
        options = ordering, dilation, groups, False, backend
        of_grad = torch.ops.fastseg.masked_conv2d(x, weight, None, None, *options)
    if ctx.needs_input_grad[1]:
        of_x = _of_input(grad, weight, *ctx.options)
    return of_grad, of_x, *([None] * 5)


register_autograd(
    "fastseg::masked_conv2d_weight", _masked_conv2d_weight_backward, setup_context=_keep_weight
)


@impl("fastseg::masked_conv2d_pair", ("CPU", "CUDA"))
def _masked_conv2d_pair(x, weight, bias, first, second, dilation, groups, relu, backend):
    options = first, second, dilation, groups, relu
    if x.numel() == 0:
        return _masked_conv2d_pair_fake(x, weight, bias, *options, backend)
    kernel = backends.load("masked_conv2d", x.device, backend)
    x = _dense(x)
    with torch.autocast(x.device.type, enabled=False):
        # An ordinary convolution has more taps, so it is never launched with another.
        if first and second and hasattr(kernel, "masked_conv2d_pair"):
            return kernel.masked_conv2d_pair(x, weight, bias, *options)
        one, other = (
            kernel.masked_conv2d(x, weight, bias, None, o, dilation, groups, relu)
            for o in (first, second)
        )
        return one, other


@register_fake("fastseg::masked_conv2d_pair")
def _masked_conv2d_pair_fake(x, weight, bias, first, second, dilation, groups, relu, backend):
    options = dilation, groups, not relu, backend
    one, other = (_empty(x, weight, ordering, *options) for ordering in (first, second))
    return one, other


def _keep_pair(ctx, inputs, output) -> None:
    x, weight, _, *ctx.options = inputs
    ctx.save_for_backward(x, weight, *(output if ctx.options[4] else (None, None)))
    ctx.set_materialize_grads(False)


def _masked_conv2d_pair_backward(ctx, *grads):
    x, weight, *outs = ctx.saved_tensors
    *orderings, dilation, groups, _, backend = ctx.options
    parts = [
        _gradients(ctx, _before_relu(grad, out), x, weight, ordering, dilation, groups, backend)
        for grad, out, ordering in zip(grads, outs, orderings, strict=True)
        if grad is not None
    ]
    total = [None if of is None else of + sum(others) for of, *others in zip(*parts, strict=True)]
    return *(total or [None] * 3), *([None] * 6)


register_autograd(
    "fastseg::masked_conv2d_pair", _masked_conv2d_pair_backward, setup_context=_keep_pair
)
