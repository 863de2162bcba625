"""What a user could run instead of `fastseg.soft_ncut`, differentiated by autograd.

p (B,K,H,W) float32, image (B,C,H,W) uint8 → (B,)
"""

import torch
import torch.nn.functional as F


def _ncut(p: torch.Tensor, filtered: torch.Tensor, degree: torch.Tensor) -> torch.Tensor:
    inner, outer = (p * filtered).sum((2, 3)), (p * degree[:, None]).sum((2, 3))
    return p.shape[1] - (inner / outer).sum(1)


def _disc(radius: int) -> list[tuple[int, int]]:
    span = range(1 - radius, radius)
    return [(dy, dx) for dy in span for dx in span if dy * dy + dx * dx < radius * radius]


def unfold(
    p: torch.Tensor, image: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> torch.Tensor:
    """`F.unfold` of the square around each pixel, weights zero outside the disc and the image."""
    (height, width), side, most = p.shape[2:], 2 * radius - 1, radius - 1

    def windows(x: torch.Tensor) -> torch.Tensor:
        return F.unfold(x, side, padding=most).view(len(x), x.shape[1], side * side, height, width)

    with torch.no_grad():
        colours = image.to(p.dtype)
        apart = (windows(colours) - colours[:, :, None]).square().sum(1)
        steps = torch.arange(-most, radius, dtype=p.dtype, device=p.device)
        square = (steps[:, None].square() + steps.square()).view(-1, 1, 1)
        weights = torch.exp(-apart / sigma_color**2 - square / sigma_space**2)
        weights *= (square < radius * radius) * windows(torch.ones_like(p[:, :1]))[:, 0]
    filtered = (windows(p) * weights[:, None]).sum(2)
    return _ncut(p, filtered, weights.sum(1))


def shift_loop(
    p: torch.Tensor, image: torch.Tensor, radius: int, sigma_color: float, sigma_space: float
) -> torch.Tensor:
    """One shifted product for each of the disc's offsets."""
    height, width = p.shape[2:]
    most = radius - 1
    colours = image.to(p.dtype)
    planes, around, inside = (
        F.pad(x, (most,) * 4) for x in (p, colours, torch.ones_like(p[:1, 0]))
    )
    filtered, degree = torch.zeros_like(p), torch.zeros_like(p[:, 0])
    for dy, dx in _disc(radius):
        rows, columns = slice(most + dy, most + dy + height), slice(most + dx, most + dx + width)
        apart = (around[..., rows, columns] - colours).square().sum(1)
        square = dy * dy + dx * dx
        weight = torch.exp(-apart / sigma_color**2 - square / sigma_space**2)
        weight = weight * inside[..., rows, columns]
        filtered = filtered + weight[:, None] * planes[..., rows, columns]
        degree = degree + weight
    return _ncut(p, filtered, degree)
