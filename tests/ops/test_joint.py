"""displaced_joint and joint_sum."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import displaced_joint, joint_sum
from fastseg.ops.joint import api
from tests.ops.joint_fields import by_definition, error, fields, random, tolerance

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")

ALGORITHMS = ["direct", "fft"]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
CASES = [  # (B,K,L,H,W), T
    ((1, 1, 1, 1, 1), 0),
    ((2, 3, 4, 9, 13), 3),
    ((3, 5, 2, 7, 40), 6),  # as far as the shorter side allows
    ((1, 4, 7, 33, 18), 1),
    ((2, 7, 7, 20, 17), 0),
]


@pytest.fixture(params=ALGORITHMS)
def algorithm(request):
    return request.param


def test_by_hand(algorithm, backend):
    p = torch.tensor([[[[1.0, 2], [3, 4]]]])
    q = torch.tensor([[[[1.0, 10], [100, 1000]]]])
    joint = displaced_joint(p, q, 1, algorithm=algorithm, backend=backend)[..., 0, 0]
    expected = [
        [4 * 1.0, 3 * 1 + 4 * 10, 3 * 10],  # each row above
        [2 + 400, 1 + 20 + 300 + 4000, 10 + 3000],
        [200, 100 + 2000, 1000],
    ]
    torch.testing.assert_close(joint, torch.tensor(expected), rtol=1e-6, atol=2e-3)
    total = joint_sum(p, q, 1, backend=backend)
    assert total.item() == 11110


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "radius"), CASES)
def test_equals_the_definition(sizes, radius, dtype, algorithm, backend):
    p, q = fields(sizes, dtype)
    joint = displaced_joint(p, q, radius, algorithm=algorithm, backend=backend)
    expected = by_definition(p, q, radius)
    assert joint.shape == expected.shape
    assert joint.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert error(joint, expected) <= tolerance(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sizes", "radius"), CASES)
def test_sum_equals_the_definition(sizes, radius, dtype, backend):
    p, q = (x.abs() for x in fields(sizes, dtype))
    total = joint_sum(p, q, radius, backend=backend)
    expected = by_definition(p, q, radius).sum((0, 1))
    assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert error(total, expected) <= tolerance(dtype)


@pytest.mark.parametrize(("sizes", "radius"), CASES)
def test_gradients_equal_those_of_the_definition(sizes, radius, algorithm, backend):
    p, q = (x.requires_grad_() for x in fields(sizes))
    joint = displaced_joint(p, q, radius, algorithm=algorithm, backend=backend)
    weights = random(*joint.shape, seed=2)
    actual = torch.autograd.grad(joint, (p, q), weights)
    expected = torch.autograd.grad(by_definition(p, q, radius), (p, q), weights.double())
    for one, other in zip(actual, expected, strict=True):
        assert error(one, other.double()) <= 1e-5


def test_gradients_of_any_order(algorithm, backend):
    p, q = (x.requires_grad_() for x in fields((2, 2, 3, 4, 5), torch.float64))
    assert torch.autograd.gradcheck(
        lambda p, q: displaced_joint(p, q, 2, algorithm=algorithm, backend=backend), (p, q)
    )
    assert torch.autograd.gradgradcheck(
        lambda p, q: displaced_joint(p, q, 2, algorithm=algorithm, backend=backend), (p, q)
    )


def test_gradients_of_the_sum_of_any_order(backend):
    p, q = (x.requires_grad_() for x in fields((2, 2, 3, 4, 5), torch.float64))
    assert torch.autograd.gradcheck(lambda p, q: joint_sum(p, q, 2, backend=backend), (p, q))
    assert torch.autograd.gradgradcheck(lambda p, q: joint_sum(p, q, 2, backend=backend), (p, q))


def test_gradient_of_one_field_alone(algorithm, backend):
    p, q = fields((1, 2, 2, 5, 6))
    p.requires_grad_()
    options = {"algorithm": algorithm, "backend": backend}
    (alone,) = torch.autograd.grad(displaced_joint(p, q, 1, **options).square().sum(), p)
    q.requires_grad_()
    both = torch.autograd.grad(displaced_joint(p, q, 1, **options).square().sum(), (p, q))
    torch.testing.assert_close(alone, both[0])


def test_pixels_out_of_the_mask_count_nowhere(algorithm, backend):
    p, q = fields((2, 3, 3, 8, 9))
    mask = torch.rand((2, 8, 9), generator=torch.Generator().manual_seed(3)) < 0.7
    options = {"backend": backend}
    kept_p, kept_q = (x * mask[:, None] for x in (p, q))
    p, q = (x.masked_fill(~mask[:, None], torch.nan) for x in (p, q))
    joint = displaced_joint(p, q, 2, mask, algorithm, **options)
    expected = displaced_joint(kept_p, kept_q, 2, None, algorithm, **options)
    assert torch.equal(joint, expected)
    assert torch.equal(joint_sum(p, q, 2, mask, **options), joint_sum(kept_p, kept_q, 2, **options))
    nothing = displaced_joint(p, q, 2, torch.zeros_like(mask), algorithm, **options)
    assert torch.equal(nothing, torch.zeros_like(joint))


@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (3, 4, 4, 12, 12))),
    radius=st.integers(0, 11),
    seed=st.integers(0, 99),
)
def test_properties(sizes, radius, seed):
    radius = min(radius, min(sizes[3:]) - 1)
    batch, classes, others, height, width = sizes
    p = random(batch, classes, height, width, seed=seed, dtype=torch.float64)
    q = random(batch, others, height, width, seed=seed + 100, dtype=torch.float64)
    joint = displaced_joint(p, q, radius, algorithm="direct")
    same = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    same(displaced_joint(p, q, radius, algorithm="fft"), joint)
    # Displaced the other way round it is transposed.
    swapped = displaced_joint(q, p, radius)
    same(swapped, joint.flip(0, 1).mT)
    same(joint_sum(p, q, radius), joint.sum((0, 1)))
    same(displaced_joint(p * 2, q, radius), joint * 2)
    parts = sum(displaced_joint(a, b, radius) for a, b in zip(p[:, None], q[:, None], strict=True))
    same(parts, joint)


@pytest.mark.parametrize("shape", [(0, 2, 4, 5), (2, 0, 4, 5)])
def test_of_nothing(shape, algorithm, backend):
    p, q = torch.rand(shape, requires_grad=True), torch.rand((shape[0], 3, 4, 5))
    joint = displaced_joint(p, q, 1, algorithm=algorithm, backend=backend)
    assert joint.shape == (3, 3, shape[1], 3)
    assert not joint.any()
    assert torch.autograd.grad(joint.sum(), p)[0].shape == shape
    assert joint_sum(p, q, 1, backend=backend).shape == (shape[1], 3)


def test_takes_any_layout(algorithm, backend):
    p, q = fields((2, 3, 4, 9, 10))
    options = {"algorithm": algorithm, "backend": backend}
    expected = displaced_joint(p, q, 2, **options)
    total = joint_sum(p, q, 2, backend=backend)
    for change in (
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.mT.contiguous().mT,
        lambda x: torch.stack([x, -x], -1)[..., 0],
    ):
        assert torch.equal(displaced_joint(change(p), change(q), 2, **options), expected)
        assert torch.equal(joint_sum(change(p), change(q), 2, backend=backend), total)


def test_same_bits_for_any_number_of_threads(algorithm, threads, native):
    p, q = (x.requires_grad_() for x in fields((5, 4, 5, 40, 37)))
    found = []
    for count in threads:
        torch.set_num_threads(count)
        joint = displaced_joint(p, q, 4, algorithm=algorithm, backend="native")
        total = joint_sum(p, q, 4, backend="native")
        found.append(
            (joint, total, *torch.autograd.grad(joint.square().sum() + total.sum(), (p, q)))
        )
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def test_every_instruction_set(native, algorithm):
    p, q = (x.requires_grad_() for x in fields((2, 5, 7, 19, 23)))
    for name in native.isas():
        native.set_isa(name)
        for dtype in (torch.float32, torch.float64):
            a, b = p.to(dtype), q.to(dtype)
            joint = displaced_joint(a, b, 3, algorithm=algorithm, backend="native")
            expected = displaced_joint(a.double(), b.double(), 3, backend="reference")
            assert error(joint, expected) <= tolerance(dtype)
            grads = torch.autograd.grad(joint.square().sum(), (p, q))
            for one, other in zip(
                grads, torch.autograd.grad(expected.square().sum(), (p, q)), strict=True
            ):
                assert error(one, other.double()) <= 1e-5
            total = joint_sum(a, b, 3, backend="native")
            assert error(total, joint_sum(a.double(), b.double(), 3)) <= tolerance(dtype)


@pytest.mark.parametrize("transposed", [False, True])
def test_they_are_sound_operators(transposed, algorithm, backend):
    p, q = fields((2, 2, 3, 5, 5))
    if transposed:
        p, q = p.mT, q.mT
    p, q = p.detach().requires_grad_(), q.detach().requires_grad_()
    options = 1, algorithm, backend
    weights = random(3, 3, 3, 2).requires_grad_()
    check = torch.library.opcheck
    for keep in (False, True):
        check(torch.ops.fastseg.displaced_joint.default, (p, q, keep, *options))
    check(torch.ops.fastseg.displaced_mix.default, (weights, p, p.new_empty(0), *options))
    check(torch.ops.fastseg.box_sum.default, (p, 2, backend))


def test_the_sum_as_operators(monkeypatch):
    """As on a GPU: the same sum and gradients, of any order."""
    p, q = (x.requires_grad_() for x in fields((2, 3, 2, 5, 4), torch.float64))
    weights = random(3, 2, seed=3, dtype=torch.float64)

    def run():
        total = joint_sum(p, q, 2)
        return total, *torch.autograd.grad(total, (p, q), weights)

    expected = run()
    monkeypatch.setattr(api, "DEVICES", ("cpu",))
    torch.testing.assert_close(run(), expected)
    assert torch.autograd.gradgradcheck(lambda p, q: joint_sum(p, q, 2), (p, q))
    nothing = joint_sum(p[:0], q[:0], 2)
    assert torch.equal(nothing, torch.zeros(3, 2, dtype=torch.float64))
    turned = p.detach().mT.contiguous().mT.requires_grad_()
    torch.library.opcheck(torch.ops.fastseg.joint_sum.default, (turned, q, 2, "auto"))
    mixed = weights.mT.contiguous().mT.requires_grad_(), q, 2, "auto"
    torch.library.opcheck(torch.ops.fastseg.mixed_sum.default, mixed)
    assert not torch.ops.fastseg.mixed_sum(weights, q[:0], 2, "auto").numel()


def test_it_compiles_whole(algorithm, backend):
    p, q = (x.requires_grad_() for x in fields((1, 2, 2, 6, 7)))

    def both(p, q):
        joint = displaced_joint(p, q, 2, algorithm=algorithm, backend=backend)
        return joint.square().sum() + joint_sum(p, q, 1, backend=backend).square().sum()

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(both(p, q), (p, q))
    for one, other in zip(torch.autograd.grad(compiled(p, q), (p, q)), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_under_autocast(algorithm, backend):
    p, q = (x.abs().requires_grad_() for x in fields((2, 3, 3, 16, 16)))
    with torch.autocast("cpu", torch.bfloat16):
        joint = displaced_joint(p, q, 2, algorithm=algorithm, backend=backend)
    assert error(joint, by_definition(p, q, 2)) <= 1e-5
    half = displaced_joint(p.bfloat16(), q.bfloat16(), 2, algorithm=algorithm, backend=backend)
    assert torch.autograd.grad(half.sum(), p)[0].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": [1]}, r"`p` must be a torch.Tensor, got list"),
        ({"p": torch.zeros(2, 5, 6)}, r"`p` must have 4 dimensions \(B, K, H, W\), got"),
        (
            {"q": torch.zeros(2, 3, 5, 6, dtype=torch.int32)},
            r"`q` must be float32 or .*, got int32",
        ),
        (
            {"q": torch.zeros(1, 3, 5, 6)},
            r"`q` must have shape \(2, any, 5, 6\), got \(1, 3, 5, 6\)",
        ),
        (
            {"p": torch.empty(2, 3, 1 << 16, 1 << 16, device="meta")}
            | {"q": torch.empty(2, 3, 1 << 16, 1 << 16, device="meta")},
            r"`p` must have at most 2147483647 pixels an image, got 65536×65536",
        ),
        ({"radius": -1}, r"`radius` must be an integer of at least 0, got -1"),
        ({"radius": 1.0}, r"`radius` must be an integer, got float"),
        ({"radius": 5}, r"`radius` must be less than the shorter side of `p` \(5\), got 5"),
        ({"mask": torch.ones(2, 5, 6)}, r"`mask` must be bool, got float32"),
        ({"mask": torch.ones(2, 5, 5).bool()}, r"`mask` must have shape \(2, 5, 6\), got"),
        ({"algorithm": "fast"}, r"`algorithm` must be one of 'auto', 'direct', 'fft', got 'fast'"),
        ({"backend": "gpu"}, r"`backend` must be one of"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"p": torch.zeros(2, 3, 5, 6), "q": torch.zeros(2, 3, 5, 6), "radius": 1, **change}
    with pytest.raises((TypeError, ValueError), match=message):
        displaced_joint(**arguments)
    if "algorithm" not in change:
        with pytest.raises((TypeError, ValueError), match=message):
            joint_sum(**arguments)
