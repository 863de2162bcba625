"""The definition of Gaussian inpainting and of IEM in plain PyTorch: any device, float dtype."""

import torch
import torch.nn.functional as F

from ._gaussian import gaussian
from ._status import CYCLE, EMPTIED, EXHAUSTED, FIXED_POINT

# The mean colour of the known pixels enters with this weight, so that a pixel out of reach of
# every known pixel is inpainted with it.
MEAN_WEIGHT = 1e-8


def gaussian_filter(x: torch.Tensor, sigma: float, taps: int, passes: int) -> torch.Tensor:
    """K * x, each plane by itself: x (B,C,H,W) → (B,C,H,W)."""
    channels = x.shape[1]
    kernel = torch.tensor(gaussian(sigma, taps), dtype=x.dtype, device=x.device)
    kernel = kernel.repeat(channels, 1, 1, 1)
    for _ in range(passes):
        x = F.conv2d(x, kernel.mT, padding=(taps // 2, 0), groups=channels)
        x = F.conv2d(x, kernel, padding=(0, taps // 2), groups=channels)
    return x


def gaussian_inpaint(
    x: torch.Tensor, mask: torch.Tensor, sigma: float, taps: int, passes: int
) -> torch.Tensor:
    """ψ = K*(x·m) / K*m: x (B,C,H,W), mask (B,1,H,W) → (B,C,H,W)."""
    known = torch.cat([x * mask, mask], 1)
    blurred = gaussian_filter(known, sigma, taps, passes)
    blurred = blurred + MEAN_WEIGHT * known.sum((2, 3), keepdim=True)
    return blurred[:, :-1] / blurred[:, -1:]


def inpainting_error(
    x: torch.Tensor, mask: torch.Tensor, sigma: float, taps: int, passes: int
) -> torch.Tensor:
    """Σ M|x−ψ(x·M̄,M̄)|/ΣM + Σ M̄|x−ψ(x·M,M)|/ΣM̄, mean over channels: (B,)."""
    error = x.new_zeros(x.shape[0])
    for layer, rest in ((mask, 1 - mask), (1 - mask, mask)):
        miss = (x - gaussian_inpaint(x, rest, sigma, taps, passes)).abs().mean(1, keepdim=True)
        error = error + (layer * miss).sum((1, 2, 3)) / layer.sum((1, 2, 3))
    return error


def total_deviation(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Σ M(x−μ_M)² + Σ M̄(x−μ_M̄)², summed over channels: (B,)."""
    deviation = x.new_zeros(x.shape[0])
    for layer in (mask, 1 - mask):
        mean = (layer * x).sum((2, 3), keepdim=True) / layer.sum((2, 3), keepdim=True)
        deviation = deviation + (layer * (x - mean) ** 2).sum((1, 2, 3))
    return deviation


def gradient(
    x: torch.Tensor, mask: torch.Tensor, lamb: float, sigma: float, taps: int, passes: int
) -> torch.Tensor:
    """d(inpainting error − λ·total deviation)/dM at a binary mask: (B,1,H,W)."""
    # Gradients also where the caller wants none: in inference mode, in a compiled graph.
    with torch.inference_mode(False), torch.enable_grad():
        x, mask = x.clone(), mask.to(x.dtype, copy=True).requires_grad_()
        objective = inpainting_error(x, mask, sigma, taps, passes)
        objective = objective - lamb * total_deviation(x, mask)
        (grad,) = torch.autograd.grad(objective.sum(), mask)
    return grad


def neighbour_sum(mask: torch.Tensor, weights: list[list[int]]) -> torch.Tensor:
    """Σ over the 3×3 neighbourhood, zero outside the image: bool (B,1,H,W) → float32."""
    kernel = torch.tensor(weights, dtype=torch.float32, device=mask.device)
    return F.conv2d(mask.float(), kernel.view(1, 1, 3, 3), padding=1)


def boundary(mask: torch.Tensor) -> torch.Tensor:
    """Pixels with a 4-neighbour of the other value; outside the image every value is the other."""
    cross = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    return torch.where(mask, neighbour_sum(mask, cross) < 4, neighbour_sum(~mask, cross) < 4)


def smooth(mask: torch.Tensor, smoothing: str) -> torch.Tensor:
    """The projection's smoothing: see `fastseg.iem`."""
    if smoothing == "authors":
        return neighbour_sum(mask, [[1, 1, 1]] * 3) >= 4
    if smoothing == "paper":
        return neighbour_sum(mask, [[1, 1, 0], [1, 0, 1], [0, 1, 1]]) > 4
    return mask


def iem(
    images: torch.Tensor,
    init: torch.Tensor,
    lo: float,
    hi: float,
    iterations: int,
    lamb: float,
    smoothing: str,
    boundary_only: bool,
    sigma: float,
    taps: int,
    passes: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """images (B,C,H,W), init (B,S,H,W) bool → masks (B,1,H,W), error, steps, status (B,)."""
    x = images if images.is_floating_point() else images.float()
    x = (x - lo) * (2 / (hi - lo)) - 1
    # A constant added to a channel changes nothing; without it, a flat one has gradient zero.
    x = x - x[:, :, :1, :1]
    runs = [
        _climb(
            x, init[:, s : s + 1], iterations, lamb, smoothing, boundary_only, sigma, taps, passes
        )
        for s in range(init.shape[1])
    ]
    best = torch.stack([run[1] for run in runs]).argmax(0)
    rows = torch.arange(x.shape[0], device=x.device)
    masks, error, steps, status = (
        torch.stack(parts)[best, rows] for parts in zip(*runs, strict=True)
    )
    return masks, error.float(), steps, status


def _climb(x, mask, iterations, lamb, smoothing, boundary_only, sigma, taps, passes):
    """Projected gradient ascent from one initial mask."""
    kernel = (sigma, taps, passes)
    steps = torch.zeros(x.shape[0], dtype=torch.int32, device=x.device)
    status = torch.where(_two_layers(mask), EXHAUSTED, EMPTIED).int()
    before = mask
    for step in range(1, iterations + 1):
        active = status == EXHAUSTED
        if not active.any():
            break
        grad = gradient(x, mask, lamb, *kernel)
        update = grad != 0
        if boundary_only:
            update &= boundary(mask)
        after = smooth(torch.where(update, grad > 0, mask), smoothing)

        steps += active
        fixed = (after == mask).all((1, 2, 3))
        cycle = (after == before).all((1, 2, 3)) & ~fixed & (step > 1)
        emptied = ~_two_layers(after)
        ended = torch.where(fixed, FIXED_POINT, torch.where(cycle, CYCLE, EXHAUSTED))
        ended = torch.where(emptied, EMPTIED, ended).int()
        # In a 2-cycle the mask after the last iteration is known without running to it.
        keep = emptied | (cycle if (iterations - step) % 2 else torch.zeros_like(cycle))
        move = (active & ~keep)[:, None, None, None]
        status = torch.where(active, ended, status)
        before, mask = (
            torch.where(active[:, None, None, None], mask, before),
            torch.where(move, after, mask),
        )
    error = torch.where(_two_layers(mask), inpainting_error(x, mask.to(x.dtype), *kernel), 0)
    return mask, error, steps, status


def _two_layers(mask: torch.Tensor) -> torch.Tensor:
    return mask.any(3).any(2).any(1) & ~mask.all(3).all(2).all(1)
