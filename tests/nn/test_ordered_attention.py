"""OrderedAttention."""

import pytest
import torch
import torch.nn.functional as F

from fastseg.nn import OrderedAttention
from fastseg.ops.attention import _reference
from fastseg.orderings import ALL, attention_mask, turn, turn_back

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def definition(module, x, ordering):
    """As the paper has it: maps, attention under a mask, maps, channels joined, merged."""
    (height, width), heads = x.shape[2:], module.heads
    tokens = x.flatten(2).mT
    parts = (tokens @ w.mT for w in module.qkv.weight.chunk(3))
    q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in parts)
    seen = _reference.ordered_attention(q, k, v, height, width, ordering)
    projected = seen.transpose(1, 2).flatten(2) @ module.project.weight.mT
    joined = torch.cat((projected.mT.unflatten(2, (height, width)), x), 1)
    return F.conv2d(joined, module.merge.weight[..., None, None], module.merge.bias)


@pytest.mark.parametrize("ordering", [0, *ALL])
@pytest.mark.parametrize("options", [(3,), (3, 4, 2), (3, 6, 3, 5)])
def test_equals_the_paper(options, ordering):
    module = OrderedAttention(*options).double()
    x = features(2, 3, 4, 5).requires_grad_()
    out, expected = module(x, ordering), definition(module, x, ordering)
    assert out.shape == (2, module.out_channels, 4, 5)
    torch.testing.assert_close(out, expected)
    grad = features(*out.shape, seed=1)
    given = [x, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(out, given, grad),
        torch.autograd.grad(expected, given, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("ordering", [0, *ALL])
def test_a_pixel_depends_on_all_before_it_and_no_others(ordering):
    module = OrderedAttention(2).double()
    x = features(1, 2, 3, 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x, ordering), x)
    seen = jacobian[0, :, :, :, 0].ne(0).any(3).any(0).flatten(0, 1).flatten(1)
    assert torch.equal(seen, attention_mask(3, 4, ordering))


@pytest.mark.parametrize("ordering", ALL)
def test_turns_with_the_picture(ordering):
    module, x = OrderedAttention(4).double(), features(1, 4, 5, 6)
    first = 1 if ordering < 9 else 9
    expected = turn(module(turn_back(x, ordering), first), ordering)
    torch.testing.assert_close(module(x, ordering), expected)


@pytest.mark.parametrize("ordering", [0, 1, 2, 16])
def test_keeps_the_layout(ordering):
    module, x = OrderedAttention(4), features(2, 4, 5, 6, dtype=torch.float32)
    out = module(x, ordering)
    assert out.is_contiguous()
    last = module(x.to(memory_format=torch.channels_last), ordering)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, out)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 1, 1)])
def test_nothing_and_little(shape):
    module = OrderedAttention(3)
    assert module(torch.ones(shape), 9).shape == shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole_for_all_orderings():
    module, x = OrderedAttention(4, heads=2), features(2, 4, 5, 6, dtype=torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for ordering in (0, 1, *ALL):
        out = compiled(x, ordering)
        torch.testing.assert_close(out, module(x, ordering))
        out.sum().backward()


def test_under_autocast():
    module, x = OrderedAttention(8), features(1, 8, 4, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x, 3)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), module(x, 3), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "`in_channels` must be an integer of at least 1, got 0"),
        ({"channels": 0}, "`channels` must be an integer of at least 1, got 0"),
        ({"heads": 0}, "`heads` must be an integer of at least 1, got 0"),
        ({"heads": 3}, r"`channels` must be a multiple of `heads` \(3\), got 4"),
        ({"out_channels": 1.5}, "`out_channels` must be an integer, got float"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        OrderedAttention(**{"in_channels": 4, **arguments})


def test_bad_input():
    module = OrderedAttention(3)
    with pytest.raises(ValueError, match=r"`x` must have shape \(any, 3, any, any\), got"):
        module(torch.zeros(1, 4, 2, 2))
    with pytest.raises(TypeError, match=r"`x` must be a torch.Tensor, got list"):
        module([1])
    with pytest.raises(ValueError, match=r"`ordering` must be an integer from 0 to 16, got 17"):
        module(torch.zeros(1, 3, 2, 2), 17)
