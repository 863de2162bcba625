"""What the tests of local_global_scores, infoseg_loss and info_nce share."""

import torch

CPU = torch.device("cpu")


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm().clamp(min=1e-300)).item()
