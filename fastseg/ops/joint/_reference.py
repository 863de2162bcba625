"""The operators in plain PyTorch: their definition, the fallback, and the benchmarks' baseline."""

import torch
import torch.nn.functional as F


def displaced_joint(p: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """J[dy,dx,k,l] = Σ_b Σ_(y,x) p[b,k,y,x]·q[b,l,y+dy,x+dx]: (2T+1,2T+1,K,L), T = `radius`."""
    height, width = p.shape[2:]
    side = 2 * radius + 1
    padded = F.pad(q, (radius,) * 4)
    joint = p.new_empty((side, side, p.shape[1], q.shape[1]))
    for dy in range(side):
        for dx in range(side):
            window = padded[..., dy : dy + height, dx : dx + width]
            joint[dy, dx] = torch.einsum("bkyx,blyx->kl", p, window)
    return joint


def displaced_mix(weights: torch.Tensor, q: torch.Tensor, radius: int) -> torch.Tensor:
    """out[b,k,y,x] = Σ_(dy,dx,l) weights[dy,dx,k,l]·q[b,l,y+dy,x+dx]: (B,K,H,W)."""
    return F.conv2d(q, weights.permute(2, 3, 0, 1), padding=radius)


def box_sum(x: torch.Tensor, radius: int) -> torch.Tensor:
    """The sum over the square of side 2T+1 around each pixel, zero outside the image."""
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, divisor_override=1)


# Spectra are kept as (n,B,K,2,m'): by rows of frequencies, real parts and imaginary ones apart,
# with zeros behind the ⌊m/2⌋+1 frequencies along x.


def part_spectra(spectra: torch.Tensor, out: torch.Tensor, image: int) -> None:
    """Write those of one image, (K,n,⌊m/2⌋+1) complex, to `out`."""
    columns = spectra.shape[2]
    parts = torch.view_as_real(spectra).permute(1, 0, 3, 2)
    out[:, image, :, :, :columns], out[:, image, :, :, columns:] = parts, 0


def spectral_joint(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Σ_b conj(p[b,k,f])·q[b,l,f], real parts and imaginary ones: (n,2,K,L,m')."""
    equation = "nbkm,nblm->nklm"
    real = [torch.einsum(equation, p[:, :, :, i], q[:, :, :, i]) for i in (0, 1)]
    cross = [torch.einsum(equation, p[:, :, :, i], q[:, :, :, 1 - i]) for i in (0, 1)]
    return torch.stack((real[0] + real[1], cross[0] - cross[1]), 1)


def spectral_mix(weights: torch.Tensor, q: torch.Tensor, columns: int) -> torch.Tensor:
    """Σ_l conj(weights[k,l,f])·q[b,l,f]: (n,2,K,L,m'), (n,B,L,2,m') → (B,K,n,columns) complex."""
    equation = "nklm,nblm->bknm"
    weights, q = weights[..., :columns], q[..., :columns]
    real = [torch.einsum(equation, weights[:, i], q[:, :, :, i]) for i in (0, 1)]
    cross = [torch.einsum(equation, weights[:, i], q[:, :, :, 1 - i]) for i in (0, 1)]
    return torch.complex(real[0] + real[1], cross[0] - cross[1])
