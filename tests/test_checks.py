"""Each check passes what it should, and its message names argument, need and what it got."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from fastseg import checks

X = torch.zeros(2, 3, 4, 5)


def test_good_values_pass():
    checks.check_tensor("x", X)
    checks.check_ndim("x", X, "BCHW")
    checks.check_shape("x", X, (2, None, 4, 5))
    checks.check_dtype("x", X, (torch.uint8, torch.float32))
    checks.check_same_device("x", X, "y", X)
    checks.check_choice("mode", "b", ("a", "b"))
    checks.check_generator("g", None)
    checks.check_generator("g", torch.Generator())
    for integer in (3, 4, np.int32(3)):
        checks.check_int("n", integer, 3)
    checks.check_int("n", np.int64(5), 1, odd=True)
    for number in (0, 0.0, 1e300, np.float32(2), Fraction(1, 3)):
        checks.check_number("r", number, 0)
    checks.check_number("r", 1e-300, 0, exclusive=True)


@pytest.mark.parametrize(
    ("check", "arguments", "error", "message"),
    [
        ("tensor", ([1],), TypeError, "`a` must be a torch.Tensor, got list"),
        (
            "ndim",
            (X[0], "BCHW"),
            ValueError,
            "`a` must have 4 dimensions (B, C, H, W), got shape (3, 4, 5)",
        ),
        (
            "shape",
            (X, (2, None, 4, 6)),
            ValueError,
            "`a` must have shape (2, any, 4, 6), got (2, 3, 4, 5)",
        ),
        ("shape", (X, (2, 3)), ValueError, "`a` must have shape (2, 3), got (2, 3, 4, 5)"),
        (
            "dtype",
            (X, (torch.int32, torch.int64)),
            TypeError,
            "`a` must be int32 or int64, got float32",
        ),
        (
            "same_device",
            (X.to("meta"), "b", X),
            ValueError,
            "`a` must be on the device of `b` (cpu), got meta",
        ),
        ("generator", (0,), TypeError, "`a` must be a torch.Generator or None, got int"),
        ("choice", ("c", ("a", "b")), ValueError, "`a` must be one of 'a', 'b', got 'c'"),
        ("choice", (None, ("a",)), ValueError, "`a` must be one of 'a', got None"),
        ("int", (2, 3), ValueError, "`a` must be an integer of at least 3, got 2"),
        ("int", (4, 1, True), ValueError, "`a` must be an odd integer of at least 1, got 4"),
        ("int", (3.0, 1), TypeError, "`a` must be an integer, got float"),
        ("int", (True, 0), TypeError, "`a` must be an integer, got bool"),
        ("int", ("3", 1, True), TypeError, "`a` must be an odd integer, got str"),
        (
            "int",
            (2**31, 0),
            ValueError,
            "`a` must be an integer of at most 2147483647, got 2147483648",
        ),
        ("number", (10**400, 0), ValueError, "`a` must be finite and at least 0, got inf"),
        ("number", (-1, 0), ValueError, "`a` must be finite and at least 0, got -1"),
        ("number", (0, 0, True), ValueError, "`a` must be finite and greater than 0, got 0"),
        ("number", (math.inf, 0), ValueError, "`a` must be finite and at least 0, got inf"),
        ("number", (math.nan, 0), ValueError, "`a` must be finite and at least 0, got nan"),
        ("number", (False, 0), TypeError, "`a` must be a number, got bool"),
        ("number", (1j, 0), TypeError, "`a` must be a number, got complex"),
    ],
)
def test_messages(check, arguments, error, message):
    with pytest.raises(error) as raised:
        getattr(checks, f"check_{check}")("a", *arguments)
    assert str(raised.value) == message
