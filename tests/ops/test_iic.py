"""iic_loss."""

import math
import tempfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastseg import displaced_joint, iic_loss, joint_sum
from fastseg.ops.joint import iic

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def classes(*shape, seed=0, dtype=torch.float32, sharp=2.0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharp * x).softmax(1).to(dtype)


def by_definition(joint, lamb, symmetric):
    """The loss of joints (D,K,K), a number at a time."""
    losses = []
    for one in joint.double():
        total = sum(value.item() for value in one.flatten())
        one = one / total
        if symmetric:
            one = (one + one.T) / 2
        rows, columns = one.sum(1).tolist(), one.sum(0).tolist()
        losses.append(
            -sum(
                v * (math.log(v) - lamb * math.log(rows[k]) - lamb * math.log(columns[column]))
                for k, line in enumerate(one.tolist())
                for column, v in enumerate(line)
                if v > 0
            )
        )
    return sum(losses) / len(losses)


def test_by_hand(backend):
    # Two classes that always agree: MI = ln 2; that never do: the same; independent ones: 0.
    p = torch.tensor([[1.0, 0], [0, 1]]).view(1, 2, 1, 2)
    assert iic_loss(p, p, 0, backend=backend).item() == pytest.approx(-math.log(2))
    assert iic_loss(p, 1 - p, 0, backend=backend).item() == pytest.approx(-math.log(2))
    even = torch.full_like(p, 0.5)
    assert iic_loss(p, even, 0, backend=backend).item() == pytest.approx(0, abs=1e-7)
    # λ weighs the marginal entropies, ln 2 each: ln 2 − 2λ ln 2.
    assert iic_loss(p, p, 0, 1.5, backend=backend).item() == pytest.approx(-2 * math.log(2))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per_displacement", [True, False])
@pytest.mark.parametrize("lamb", [0.0, 1.0, 1.5])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_equals_the_definition(dtype, close, lamb, per_displacement, symmetric, backend):
    p, q = (classes(2, 4, 11, 9, seed=seed, dtype=dtype) for seed in (0, 1))
    q = (p + q) / 2
    if per_displacement:
        joint = displaced_joint(p.double(), q.double(), 2, backend="reference").flatten(0, 1)
    else:
        joint = joint_sum(p.double(), q.double(), 2, backend="reference")[None]
    for algorithm in ("direct", "fft"):
        loss = iic_loss(
            p, q, 2, lamb, None, per_displacement, symmetric, algorithm=algorithm, backend=backend
        )
        assert loss.dtype == dtype
        # Relative to the entropies, of up to ln 4 each, that the loss is the difference of.
        expected = by_definition(joint, lamb, symmetric)
        assert loss.item() == pytest.approx(expected, rel=close, abs=close / 10)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per_displacement", [True, False])
def test_gradients(per_displacement, symmetric, backend):
    p, q = (classes(1, 3, 5, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    mask = torch.rand((1, 5, 4), generator=torch.Generator().manual_seed(2)) < 0.8

    def loss(p, q):
        return iic_loss(p, q, 1, 1.3, mask, per_displacement, symmetric, backend=backend)

    assert torch.autograd.gradcheck(loss, (p, q))
    assert torch.autograd.gradgradcheck(loss, (p, q))


def test_terms_as_an_operator(monkeypatch):
    """As on a GPU: the same loss and gradients, of any order."""
    p, q = (classes(1, 3, 5, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    expected = iic_loss(p, q, 1, 1.3)
    gradients = torch.autograd.grad(expected, (p, q))
    monkeypatch.setattr(iic, "DEVICES", ("cpu",))
    loss = iic_loss(p, q, 1, 1.3)
    torch.testing.assert_close((loss, *torch.autograd.grad(loss, (p, q))), (expected, *gradients))
    assert torch.autograd.gradgradcheck(lambda p, q: iic_loss(p, q, 1, 1.3), (p, q))
    joint = displaced_joint(p, q, 1).detach().requires_grad_()
    for symmetric in (False, True):
        options = joint, 1.3, symmetric, "auto"
        torch.library.opcheck(torch.ops.fastseg.iic_terms.default, options)
        back = torch.ops.fastseg.iic_terms_back.default
        torch.library.opcheck(back, (joint.detach().sum((2, 3)), joint.detach(), *options[1:]))


@pytest.mark.parametrize("per_displacement", [True, False])
@pytest.mark.parametrize("algorithm", ["direct", "fft"])
@pytest.mark.parametrize("kind", ["masked", "zeros", "one class", "one hot", "single", "unnormed"])
def test_never_nan(kind, algorithm, per_displacement, backend):
    p, q = (classes(2, 3, 6, 7, seed=seed) for seed in (0, 1))
    mask = None
    if kind == "masked":
        mask = torch.zeros((2, 6, 7), dtype=torch.bool)
    elif kind == "zeros":
        p, q = torch.zeros_like(p), torch.zeros_like(q)
    elif kind == "one class":
        p = q = torch.eye(3)[0].view(1, 3, 1, 1).expand(2, -1, 6, 7).clone()
    elif kind == "one hot":
        p, q = (torch.eye(3)[x.argmax(1)].permute(0, 3, 1, 2) for x in (p, q))
    elif kind == "single":
        p, q = p[:, :1], q[:, :1]
    else:
        p, q = 7 * p, 0.1 * q
    p, q = p.clone().requires_grad_(), q.clone().requires_grad_()
    loss = iic_loss(p, q, 2, 1, mask, per_displacement, algorithm=algorithm, backend=backend)
    gradients = torch.autograd.grad(loss, (p, q))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    if kind in ("masked", "zeros", "one class", "single"):
        assert abs(loss.item()) < 1e-6
    if kind == "masked":
        assert not any(gradient.any() for gradient in gradients)


def test_values_need_not_sum_to_one():
    p, q = (classes(2, 3, 6, 7, seed=seed, dtype=torch.float64) for seed in (0, 1))
    torch.testing.assert_close(iic_loss(7 * p, 0.1 * q, 1), iic_loss(p, q, 1))


@given(seed=st.integers(0, 999), count=st.integers(1, 6), symmetric=st.booleans())
def test_mutual_information_is_bounded(seed, count, symmetric):
    p, q = (classes(1, count, 5, 6, seed=s, dtype=torch.float64) for s in (seed, seed + 1))
    for per_displacement in (True, False):
        loss = iic_loss(p, q, 1, 1, None, per_displacement, symmetric).item()
        assert -math.log(count) - 1e-9 <= loss <= 1e-9


def test_under_autocast(backend):
    p, q = (classes(2, 3, 9, 9, seed=seed).requires_grad_() for seed in (0, 1))
    expected = iic_loss(p, q, 1, backend=backend).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert iic_loss(p, q, 1, backend=backend).item() == pytest.approx(expected, rel=1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        low = iic_loss(p.to(dtype), q.to(dtype), 1, backend=backend)
        assert low.item() == pytest.approx(expected, rel=0.05)
        assert all(g.isfinite().all() for g in torch.autograd.grad(low, (p, q)))


@pytest.mark.parametrize("per_displacement", [True, False])
def test_it_compiles_whole(per_displacement, backend):
    p, q = (classes(2, 3, 9, 8, seed=seed).requires_grad_() for seed in (0, 1))

    def loss(p, q):
        return iic_loss(p, q, 2, 1.5, None, per_displacement, backend=backend)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(p, q), loss(p, q))
    actual, expected = (torch.autograd.grad(f(p, q), (p, q)) for f in (compiled, loss))
    torch.testing.assert_close(actual, expected)


# --- ranks -------------------------------------------------------------------------------------


def work_on_a_share(rank, ranks, file, per_displacement, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{file}", rank=rank, world_size=ranks, timeout=None
    )
    network = torch.nn.parallel.DistributedDataParallel(small_network())
    x = images()[rank::ranks]
    loss = loss_of(network, x, per_displacement, torch.distributed.group.WORLD)
    loss.backward()
    results[rank] = loss.item(), [p.grad for p in network.parameters()]
    torch.distributed.destroy_process_group()


def small_network():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 4, 3, padding=1).double()


def images():
    return torch.rand((8, 3, 9, 10), generator=torch.Generator().manual_seed(5)).double()


def loss_of(network, x, per_displacement, group):
    p, q = (network(view).softmax(1) for view in (x, x.flip(1)))
    return iic_loss(p, q, 2, 1.2, None, per_displacement, group=group)


@pytest.mark.parametrize(("ranks", "per_displacement"), [(2, True), (4, False)])
def test_ranks_get_the_gradient_of_the_whole_batch(ranks, per_displacement):
    network = small_network()
    expected = loss_of(network, images(), per_displacement, None)
    expected.backward()
    with torch.multiprocessing.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        results = manager.dict()
        arguments = ranks, f"{folder}/store", per_displacement, results
        torch.multiprocessing.spawn(work_on_a_share, arguments, nprocs=ranks)
        assert len(results) == ranks
        whole = [parameter.grad for parameter in network.parameters()]
        for loss, gradients in results.values():
            assert loss == pytest.approx(expected.item(), rel=1e-5)
            torch.testing.assert_close(gradients, whole, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lamb": -1.0}, r"`lamb` must be finite and at least 0, got -1"),
        ({"lamb": "1"}, r"`lamb` must be a number, got str"),
        ({"per_displacement": 2}, r"`per_displacement` must be one of True, False, got 2"),
        ({"symmetric": None}, r"`symmetric` must be one of True, False, got None"),
        ({"q": torch.zeros(1, 4, 5, 6)}, r"`q` must have shape \(1, 3, 5, 6\), got \(1, 4, 5, 6\)"),
        ({"p": None}, r"`p` must be a torch.Tensor, got NoneType"),
        ({"radius": 5}, r"`radius` must be less than the shorter side of `p` \(5\), got 5"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"p": torch.zeros(1, 3, 5, 6), "q": torch.zeros(1, 3, 5, 6), "radius": 1, **change}
    with pytest.raises((TypeError, ValueError), match=message):
        iic_loss(**arguments)
