"""The convolution that sees in an ordering, and the way to set the ordering of a whole network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..checks import check_choice, check_int
from ..ops.masked_conv import masked_conv2d
from ..orderings import check_ordering

__all__ = ["MaskedConv2d", "use_ordering"]


class MaskedConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` of stride 1 that sees in an ordering: `fastseg.masked_conv2d` as a layer.

    Parameters, their names and their initial values are those of `torch.nn.Conv2d`, so that weights
    go from one to the other. The ordering is an argument of the call, else that of `use_ordering`,
    else 0, the ordinary convolution.

    Args:
        in_channels, out_channels, groups, bias, device, dtype: as of `torch.nn.Conv2d`.
        kernel_size: 1, 3, 5 or 7.
        stride: 1.
        padding: "same", or what that comes to: dilation·⌊kernel_size/2⌋.
        dilation: an integer.
        padding_mode: "zeros".
        activation, backend: of `masked_conv2d`.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = "same",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | None = None,
        backend: str = "auto",
    ) -> None:
        check_int("in_channels", in_channels, 1)
        check_int("out_channels", out_channels, 1)
        check_choice("kernel_size", kernel_size, (1, 3, 5, 7))
        check_int("dilation", dilation, 1)
        check_choice("stride", stride, (1,))
        check_choice("padding", padding, ("same", kernel_size // 2 * dilation))
        check_choice("padding_mode", padding_mode, ("zeros",))
        check_choice("activation", activation, (None, "relu"))
        sizes = in_channels, out_channels, kernel_size, stride, "same", dilation, groups, bias
        super().__init__(*sizes, device=device, dtype=dtype)
        self.activation, self.backend = activation, backend
        self.ordering = 0

    def forward(
        self,
        x: torch.Tensor,
        ordering: int | None = None,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Convolve in `ordering`, or in the layer's own if that is None.

        Args:
            x, residual: as in `masked_conv2d`.
            ordering: 0 … 8.

        Returns:
            (B,O,H,W)
        """
        return masked_conv2d(
            x,
            self.weight,
            self.bias,
            self.ordering if ordering is None else ordering,
            self.dilation[0],
            self.groups,
            activation=self.activation,
            residual=residual,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        chosen = "" if self.activation is None else f", activation={self.activation!r}"
        return super().extra_repr() + chosen


@contextmanager
def use_ordering(network: nn.Module, ordering: int) -> Iterator[None]:
    """Inside, all layers of `network` that see in an ordering see in this one.

        with fastseg.nn.use_ordering(network, 3):
            out = network(x)

    It sets the attribute `ordering` of every module that has one, and puts back what was there. So
    it compiles, into a graph for each ordering, where `torch.compile` is given the network; threads
    that share a network must not differ.

    Args:
        network: the module, or what contains it.
        ordering: 0, or an ordering that its layers know: 1 … 8 for convolutions.

    Raises:
        TypeError, ValueError: an argument is not as above, or no module has an ordering.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"`network` must be a torch.nn.Module, got {type(network).__name__}")
    layers = [module for module in network.modules() if hasattr(module, "ordering")]
    if not layers:
        raise ValueError("`network` must have a layer with an ordering, got none")
    convolves = any(isinstance(layer, MaskedConv2d) for layer in layers)
    check_ordering(ordering, 8 if convolves else 16)
    before = [layer.ordering for layer in layers]
    try:
        for layer in layers:
            layer.ordering = ordering  # type: ignore[assignment]
        yield
    finally:
        for layer, former in zip(layers, before, strict=True):
            layer.ordering = former
