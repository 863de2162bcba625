"""The Triton kernel that puts pixels in order, against the reference: compiled on a GPU, else run
by the interpreter."""

import math

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg import backends, ordered_attention
from fastseg.nn import OrderedAttention
from fastseg.ops.attention import _reference, _triton
from fastseg.ops.attention._order import reorder

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
pytestmark += [pytest.mark.usefixtures("poisoned")]

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(1, 1, 1, 1), (2, 3, 130, 40), (3, 35, 64), (2, 1, 20, 300), (2, 1, 700, 3)]


def problem(shape, device, dtype=torch.float32):
    """Numbers, and an order of their rows."""
    rng = torch.Generator().manual_seed(0)
    x, order = torch.randn(shape, generator=rng), torch.randperm(shape[-2], generator=rng)
    return x.to(device, dtype), order.to(device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(shape, dtype, device):
    x, order = problem(shape, device, dtype)
    out = _triton.reorder(x, order)
    assert out.is_contiguous()
    assert torch.equal(out, _reference.reorder(x, order))


@pytest.mark.parametrize("shape", [(0, 2, 5, 3), (2, 0, 5, 3), (2, 2, 0, 3), (2, 5, 0)])
def test_nothing(shape, device):
    x, order = problem(shape, device)
    assert _triton.reorder(x, order).shape == shape


def test_any_layout(device):
    """Channels first, and heads that lie beside each other, with queries, keys and values."""
    x, order = problem((2, 35, 12), device)
    heads = x.unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    for part in (x.mT.contiguous().mT, x[:, :, ::2], *heads):
        assert torch.equal(_triton.reorder(part, order), _reference.reorder(part, order))


@pytest.mark.parametrize("ordering", [2, 5, 16])
def test_attention_and_its_block(ordering, device, monkeypatch):
    """In order by the kernel, values and gradients: as PyTorch puts them."""
    tokens = problem((3, 2, 2, 5 * 7, 4), device)[0]
    torch.manual_seed(0)
    block = OrderedAttention(4, heads=2, backend="torch").to(device)

    def run():
        q, k, v = given = [x.detach().requires_grad_() for x in tokens]
        seen = ordered_attention(q, k, v, 5, 7, ordering, backend="torch")
        after = block(seen[:, 0].mT.unflatten(2, (5, 7)), ordering)
        return seen, after, *torch.autograd.grad(after.square().sum(), given)

    def take(module):
        monkeypatch.setattr(backends, "load", lambda *_: module)
        return run()

    for one, other in zip(take(_triton), take(_reference), strict=True):
        torch.testing.assert_close(one, other)


def test_no_access_outside_the_tensors(device):
    """The launch again between walls: NaN around what it reads, known values around the rest."""
    x, order = problem((2, 3, 37, 40), device)

    def walled(tensor, value):
        memory = tensor.new_full((tensor.numel() + 16384,), value)
        inside = memory[8192:-8192].view(tensor.shape)
        return inside.copy_(tensor), memory

    with recorded() as launches:
        out = _triton.reorder(x, order)
    (launch,) = launches
    result, memory = walled(torch.zeros_like(out), 7)
    inside = {"p_x": walled(x, torch.nan)[0], "p_order": walled(order, -(2**40))[0]}
    arguments = launch.arguments | inside | {"p_out": result}
    launch.kernel[launch.blocks](**arguments, **launch.options)
    assert (memory[:8192] == 7).all()
    assert (memory[-8192:] == 7).all()
    assert torch.equal(result, _reference.reorder(x, order))


@pytest.mark.parametrize("shape", [*SHAPES, (60, 1, 2500, 128), (70_000, 3, 40_000, 512)])
def test_launch(shape):
    """Every row in one block, in one dimension of the grid."""
    x = torch.empty(shape, device="meta")
    order = torch.empty(shape[-2], dtype=torch.int64, device="meta")
    with recorded() as launches:
        out = _triton.reorder(x, order)
    assert out.shape == shape
    (launch,) = launches
    arguments = launch.arguments
    assert set(arguments) == set(launch.kernel.arg_names)
    assert (arguments["N"], arguments["D"]) == shape[-2:]
    planes = math.prod(shape[:-2])
    assert launch.blocks == (planes * math.ceil(shape[-2] / arguments["BLOCK_N"]),)
    assert launch.blocks[0] < 2**31


def test_the_gradient_of_a_move_is_the_move_back():
    x, _ = problem((2, 35, 3), "cpu", torch.float64)
    torch.autograd.gradcheck(lambda x: reorder(x, 5, 7, 11), x.requires_grad_())
