"""Argument checks. Each names the argument, says what it got and what it needs."""

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real

import torch

__all__ = [
    "check_choice",
    "check_dtype",
    "check_generator",
    "check_int",
    "check_ints",
    "check_ndim",
    "check_number",
    "check_same_device",
    "check_shape",
    "check_tensor",
    "check_value_range",
    "check_within",
]

INT32_MAX = 2**31 - 1


def check_tensor(name: str, value: object) -> None:
    """`value` is a torch.Tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, got {type(value).__name__}")


def check_ndim(name: str, tensor: torch.Tensor, layout: str) -> None:
    """`tensor` has one dimension for each letter of `layout`, for example "BCHW"."""
    if tensor.ndim != len(layout):
        raise ValueError(
            f"`{name}` must have {len(layout)} dimensions ({', '.join(layout)}), "
            f"got shape {tuple(tensor.shape)}"
        )


def check_shape(name: str, tensor: torch.Tensor, expected: tuple[int | None, ...]) -> None:
    """`tensor` has the `expected` shape; None stands for any size."""
    got = tuple(tensor.shape)
    if len(got) != len(expected) or any(
        e is not None and g != e for g, e in zip(got, expected, strict=True)
    ):
        need = ", ".join("any" if e is None else str(e) for e in expected)
        raise ValueError(f"`{name}` must have shape ({need}), got {got}")


def check_dtype(name: str, tensor: torch.Tensor, allowed: Collection[torch.dtype]) -> None:
    """`tensor.dtype` is one of `allowed`."""
    if tensor.dtype not in allowed:
        need = " or ".join(str(d).removeprefix("torch.") for d in allowed)
        got = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(f"`{name}` must be {need}, got {got}")


def check_same_device(name: str, tensor: torch.Tensor, other: str, reference: torch.Tensor) -> None:
    """Both tensors live on one device."""
    if tensor.device != reference.device:
        raise ValueError(
            f"`{name}` must be on the device of `{other}` ({reference.device}), got {tensor.device}"
        )


def check_generator(name: str, value: object) -> None:
    """`value` is a torch.Generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise TypeError(f"`{name}` must be a torch.Generator or None, got {type(value).__name__}")


def check_choice(name: str, value: object, allowed: Collection[object]) -> None:
    """`value` is one of those `allowed`."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_int(name: str, value: object, minimum: int, odd: bool = False) -> None:
    """`value` is an integer ≥ `minimum` that fits in int32, odd where asked."""
    kind = "an odd integer" if odd else "an integer"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be {kind}, got {type(value).__name__}")
    if value < minimum or (odd and value % 2 == 0):
        raise ValueError(f"`{name}` must be {kind} of at least {minimum}, got {value}")
    if int(value) > INT32_MAX:
        raise ValueError(f"`{name}` must be {kind} of at most {INT32_MAX}, got {value}")


def check_ints(name: str, values: object, minimum: int, count: int | None = None) -> None:
    """`values` is a sequence of integers ≥ `minimum`, of `count` if that is given."""
    many = "" if count is None else f"{count} "
    if not isinstance(values, Sequence):
        raise TypeError(
            f"`{name}` must be a sequence of {many}integers, got {type(values).__name__}"
        )
    if count not in (None, len(values)):
        raise ValueError(
            f"`{name}` must be a sequence of {many}integers, got {len(values)} of them"
        )
    for value in values:
        check_int(name, value, minimum)


def check_number(name: str, value: object, minimum: float, exclusive: bool = False) -> None:
    """`value` is a finite real number ≥ `minimum` (> where `exclusive`)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    good = number > minimum if exclusive else number >= minimum
    if not good or number == math.inf:
        bound = "greater than" if exclusive else "at least"
        raise ValueError(f"`{name}` must be finite and {bound} {minimum:g}, got {number:g}")


def check_value_range(
    images: torch.Tensor, value_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Lowest and highest pixel value: `value_range` if given, else that of the dtype."""
    if value_range is None:
        return (0.0, 255.0) if images.dtype == torch.uint8 else (0.0, 1.0)
    try:
        lo, hi = map(float, value_range)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`value_range` must be two numbers, got {value_range!r}") from error
    if not lo < hi or hi - lo == math.inf:
        raise ValueError(f"`value_range` must be finite and increasing, got ({lo:g}, {hi:g})")
    return lo, hi


def check_within(name: str, images: torch.Tensor, lo: float, hi: float) -> None:
    """Float pixels on the CPU lie in the value range; elsewhere a look would wait for the GPU."""
    if images.device.type == "cpu" and images.is_floating_point() and images.numel():
        low, high = images.aminmax()
        if not (low >= lo and high <= hi):
            raise ValueError(
                f"`{name}` must lie in the value range [{lo:g}, {hi:g}], "
                f"got {low.item():g} … {high.item():g}"
            )
