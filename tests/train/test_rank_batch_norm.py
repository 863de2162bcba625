"""Batch norm over ranks. What several processes do is in test_processes.py."""

import pytest
import torch
from torch import nn

from fastseg.train.ranks import RankBatchNorm, Ranks, normalise_over, ranks


@pytest.fixture
def group(tmp_path):
    """One rank, which goes all the ways of several."""
    torch.distributed.init_process_group(
        "gloo", f"file://{tmp_path}/ranks", rank=0, world_size=1, timeout=None
    )
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


def pair(group, norm, shape):
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Sequential(norm())) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    normalise_over(ours, group)
    return ours, theirs, 3 + 2 * torch.randn(shape)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (lambda: nn.BatchNorm2d(3), (4, 3, 5, 6)),
        (lambda: nn.BatchNorm1d(3), (7, 3)),
        (lambda: nn.BatchNorm2d(3, affine=False, momentum=None), (4, 3, 2, 2)),
        (lambda: nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 5, 1)),
    ],
)
def test_it_is_batch_norm(group, norm, shape):
    ours, theirs, x = pair(group, norm, shape)
    assert isinstance(ours[0][0], RankBatchNorm)
    for each in range(2):
        xs = [(x + each).requires_grad_() for _ in range(2)]
        outs = [module(y) for module, y in zip((ours, theirs), xs, strict=True)]
        torch.testing.assert_close(outs[0], outs[1])
        weight = torch.randn(shape)
        grads = [torch.autograd.grad((out * weight).sum(), y)[0]
                 for out, y in zip(outs, xs, strict=True)]  # fmt: skip
        torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_its_gradient_can_be_differentiated(group):
    ours, _, x = pair(group, lambda: nn.BatchNorm2d(2).double(), (2, 2, 2, 2))
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(ours, x)
    assert torch.autograd.gradgradcheck(ours, x)


def test_parameters_stay_those_of_the_optimiser(group):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = list(network.parameters())
    normalise_over(network, group)
    assert all(a is b for a, b in zip(network.parameters(), before, strict=True))


def test_half_precision_is_summed_in_single(group):
    ours, theirs, x = pair(group, lambda: nn.BatchNorm2d(3), (4, 3, 5, 6))
    out = ours(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, theirs(x.bfloat16()).bfloat16(), atol=0.02, rtol=0.02)


def test_gradients_of_all_kinds_are_averaged(group):
    shapes = torch.zeros(2, 3), torch.zeros(2).double(), torch.zeros(1)
    parameters = [nn.Parameter(value) for value in shapes]
    for parameter in parameters[:2]:
        parameter.grad = torch.ones_like(parameter)
    Ranks(torch.device("cpu"), 0, 4, group).average_gradients(parameters)
    single, double, none = (parameter.grad for parameter in parameters)
    torch.testing.assert_close(single, torch.full((2, 3), 0.25))
    torch.testing.assert_close(double, torch.full((2,), 0.25).double())
    assert none is None


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"`--device cuda`: PyTorch finds no CUDA device here"), \
            ranks("cuda"):  # fmt: skip
        pass
    with ranks() as place:
        assert (place.device.type, place.rank, place.world, place.group) == ("cpu", 0, 1, None)
