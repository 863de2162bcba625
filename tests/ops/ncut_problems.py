"""Problems for the tests of soft_ncut, and its definition."""

import torch

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def problem(batch, classes, channels, height, width, seed=0, dtype=torch.float32):
    """Probabilities, and an image of a few colours with noise, uint8."""
    rng = torch.Generator().manual_seed(seed)
    p = torch.randn((batch, classes, height, width), generator=rng).softmax(1).to(dtype)
    flat = torch.randint(0, 3, (batch, channels, height, width), generator=rng) * 60
    return p, (flat + torch.randint(0, 20, flat.shape, generator=rng)).to(torch.uint8)


def gradients(shape, dtype):
    """What `ncut_back` takes, of `shape` (B,K,H,W)."""
    rng = torch.Generator().manual_seed(0)
    batch, classes, *pixels = shape
    shapes = (batch, classes), (batch, classes), shape, (batch, *pixels)
    return [torch.rand(shape, generator=rng, dtype=dtype) for shape in shapes]


def dense_ncut(p, colours, radius=5, sigma_color=10.0, sigma_space=4.0):
    """From the whole matrix of affinities, in the dtype of p; colours count from 0 to 255."""
    height, width = p.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = torch.stack([y.flatten(), x.flatten()], 1).to(p.dtype)
    square = (at[:, None] - at).square().sum(2)
    c = colours.flatten(2).mT.to(p.dtype)
    apart = (c[:, :, None] - c[:, None]).square().sum(3)
    w = torch.exp(-apart / sigma_color**2) * torch.exp(-square / sigma_space**2)
    w = w * (square < radius**2)
    p = p.flatten(2)
    inner = torch.einsum("bki,bij,bkj->bk", p, w, p)
    outer = torch.einsum("bki,bij->bk", p, w)
    return p.shape[1] - (inner / outer).sum(1)


def value_and_gradient(loss, p):
    p = p.detach().requires_grad_()
    value = loss(p)
    (gradient,) = torch.autograd.grad(value.sum(), p)
    return value.detach(), gradient


def relative_error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()
