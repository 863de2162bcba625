"""Fields and their joint by definition, for the tests of displaced_joint."""

import torch


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def fields(sizes, dtype=torch.float32):
    batch, classes, others, height, width = sizes
    p = random(batch, classes, height, width, dtype=dtype)
    return p, random(batch, others, height, width, seed=1, dtype=dtype)


def by_definition(p, q, radius):
    """J in float64, each displacement from the pixels that stay inside."""
    p, q = p.double(), q.double()
    joint = torch.zeros(2 * radius + 1, 2 * radius + 1, p.shape[1], q.shape[1], dtype=p.dtype)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            here = [
                slice(max(0, -d), n - max(0, d)) for d, n in ((dy, p.shape[2]), (dx, p.shape[3]))
            ]
            there = [slice(s.start + d, s.stop + d) for d, s in ((dy, here[0]), (dx, here[1]))]
            pairs = p[:, :, here[0], here[1], None], q[:, :, there[0], there[1], None]
            left, right = (x.permute(1, 0, 2, 3, 4).flatten(1) for x in pairs)
            joint[radius + dy, radius + dx] = left @ right.T
    return joint


def error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


def tolerance(dtype):
    return 1e-12 if dtype == torch.float64 else 1e-5
