"""Region pooling on the superpixels of photographs."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch

import fastseg

from ..images import photographs
from ..registry import (
    TOLERANCE,
    Aim,
    Problem,
    Setup,
    Variant,
    Work,
    case,
    compiled,
    require,
    require_close,
)

SHAPES = ((2, 256, 128, 137), (16, 64, 128, 64), (4, 64, 200, 36))  # B, C, side, R
GPU_SHAPES = ((60, 64, 200, 36), (60, 64, 200, 225), (32, 256, 128, 137))
EMBED_SHAPE, GPU_EMBED_SHAPE = (8, 64, 128, 225), (60, 64, 128, 225)
LEVELS = (1, 2, 4)
SIZE = (8, 8)
QUICK_SHAPES = ((1, 16, 64, 40),)


@lru_cache(maxsize=8)
def superpixels(count: int, size: int, regions: int) -> torch.Tensor:
    """SLIC of the photographs, at most so many regions: int64 (count,size,size)."""
    from skimage.segmentation import slic

    maps = []
    for picture in photographs(count, size).permute(0, 2, 3, 1).numpy():
        wanted = regions
        while (labels := slic(picture, n_segments=wanted, start_label=0)).max() >= regions:
            wanted -= max(1, wanted // 20)
        maps.append(labels)
    return torch.from_numpy(np.stack(maps)).long()


def features(
    setup: Setup, batch: int, channels: int, size: int, channels_last: bool
) -> torch.Tensor:
    x = torch.randn((batch, channels, size, size), generator=torch.Generator().manual_seed(0))
    x = x.to(setup.device)
    return x.to(memory_format=torch.channels_last) if channels_last else x


def both_ways(pool: Callable, x: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Value and gradient."""
    x = x.detach().requires_grad_()
    out = pool(x)
    return out.detach(), *torch.autograd.grad(out, x, grad)


def pooling(
    setup: Setup,
    shape: tuple,
    reduce: str,
    channels_last: bool,
    backward: bool,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """One problem: ours with and without the making of the index, and the peers."""
    from ..peers import region as peers

    batch, channels, size, regions = shape
    x = features(setup, batch, channels, size, channels_last).to(dtype)
    labels = superpixels(batch, size, regions).to(setup.device)
    index = fastseg.region_index(labels, regions)
    grad = torch.randn((batch, regions, channels), generator=torch.Generator().manual_seed(1))
    grad = grad.to(setup.device, dtype)

    def ours(labels: Any, x: torch.Tensor) -> torch.Tensor:
        return fastseg.region_pool(x, labels, regions, reduce, setup.backend)

    def variant(
        name: str,
        pool: Callable,
        goal: tuple[str, float] | None = None,
        aim: Aim | None = None,
        graph: bool = True,
    ) -> Variant:
        run = partial(both_ways, pool, x, grad) if backward else partial(pool, x)
        # Forward reads x once; backward writes its gradient once.
        traffic = x.nbytes * (2 if backward else 1) + grad.nbytes
        return Variant(name, run, lambda _: Work(1, bytes=traffic), goal, aim=aim, graph=graph)

    def peer(pool: Callable) -> Callable:
        return partial(pool, labels=labels, regions=regions, reduce=reduce)

    ways = [
        variant(setup.backend, partial(ours, index), aim=Aim("copy", 0.65) if backward else None),
        variant(f"{setup.backend}, and the index", partial(ours, labels)),
    ]
    if channels_last:
        ways.append(variant("torch index_reduce", peer(peers.index_reduce), ("≥", 1)))
    else:
        aim = Aim("ratio", 3) if backward else None
        ways.append(variant("torch scatter_reduce", peer(peers.scatter_reduce), ("≥", 10), aim))
        if peers.HAS_TORCH_SCATTER:
            ways.append(variant("torch_scatter", peer(peers.torch_scatter), ("≥", 10)))
        if not backward and not setup.gpu:
            ways.append(variant("SciPy labelled", peer(peers.scipy_labelled)))
        if not backward and setup.gpu and peers.HAS_CUPY and dtype == torch.float32:
            labelled = peer(peers.cupy_labelled)
            ways.append(variant("cupyx.scipy labelled", labelled, graph=False))
    if setup.gpu:
        way = peers.index_reduce if channels_last else peers.scatter_reduce
        ways.append(variant("the same by torch.compile", compiled(peer(way))))

    def gate(results: dict[str, Any]) -> None:
        def exact(x: torch.Tensor) -> torch.Tensor:
            return fastseg.region_pool(x, labels, regions, reduce, "reference")

        require_close(results, both_ways(exact, x.double(), grad.double()), TOLERANCE[dtype])

    layout = "channels last" if channels_last else "NCHW"
    layout += ", bfloat16" if dtype == torch.bfloat16 else ""
    ways_of = "forward and backward" if backward else "forward"
    sizes = f"{batch}×{channels}×{size}×{size}, R={regions}"
    return Problem(f"{sizes}, {reduce}, {layout}, {ways_of}", "call", ways, gate)


def poolings(setup: Setup, backward: bool) -> Iterator[Problem]:
    shapes = QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES
    for shape, reduce, last in product(shapes, ("max", "mean"), (False, True)):
        yield pooling(setup, shape, reduce, last, backward)
    if setup.gpu:
        for reduce in ("max", "mean"):
            yield pooling(setup, shapes[0], reduce, True, backward, torch.bfloat16)


@case("region_pool_forward", "cpu", "gpu", operator="region_max")
def region_pool_forward(setup: Setup) -> Iterator[Problem]:
    """Region pooling; its share of the bound is that of a read."""
    yield from poolings(setup, backward=False)


@case("region_pool", "cpu", "gpu", operator="region_max")
def region_pool(setup: Setup) -> Iterator[Problem]:
    """Region pooling and its gradient."""
    yield from poolings(setup, backward=True)


def one_read(size: int, _: Any) -> Work:
    return Work(1, bytes=size)


@case("region_index", "cpu", "gpu", operator="region_index")
def region_index(setup: Setup) -> Iterator[Problem]:
    """The index of a batch of label maps, beside one read of them."""
    for batch, _, size, regions in (
        QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES
    ):
        labels = superpixels(batch, size, regions).to(setup.device)

        def make(backend: str, labels=labels, regions=regions) -> fastseg.RegionIndex:
            return fastseg.region_index(labels, regions, backend)

        def gate(results: dict[str, Any]) -> None:
            first, second = results.values()
            for name in ("labels", "num_runs", "counts", "boxes"):
                same = torch.equal(getattr(first, name), getattr(second, name))
                require(same, f"`{name}` of the index differs from the reference's")

        ways = [
            Variant(name, partial(make, name), partial(one_read, labels.nbytes))
            for name in (setup.backend, "reference")
        ]
        yield Problem(f"{batch}×{size}×{size}, R={regions}", "call", ways, gate)


def embedding(
    setup: Setup, embed: Callable, loop: Callable, channels_last: bool, backward: bool
) -> Problem:
    """embed(x, labels, regions, backend) against loop(x, index)."""
    full = GPU_EMBED_SHAPE if setup.gpu else EMBED_SHAPE
    batch, channels, size, regions = QUICK_SHAPES[0] if setup.quick else full
    labels = superpixels(batch, size, regions).to(setup.device)
    index = fastseg.region_index(labels, regions)
    x = features(setup, batch, channels, size, channels_last)
    out = embed(x, index, regions, setup.backend)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(setup.device)
    traffic = (x.nbytes + out.nbytes) * (2 if backward else 1)

    def variant(name: str, way: Callable, goal: tuple[str, float] | None = None) -> Variant:
        run = partial(both_ways, way, x, grad) if backward else partial(way, x)
        # The loop reads the boxes.
        graph = not name.startswith("loop")
        return Variant(name, run, partial(one_read, traffic), goal, graph=graph)

    ways = [
        variant(setup.backend, lambda x: embed(x, index, regions, setup.backend)),
        variant(
            f"{setup.backend}, and the index", lambda x: embed(x, labels, regions, setup.backend)
        ),
        variant("loop over regions", lambda x: loop(x, index), ("≥", 100)),
    ]

    def gate(results: dict[str, Any]) -> None:
        def exact(x: torch.Tensor) -> torch.Tensor:
            return embed(x, index, regions, "reference")

        exact_parts = both_ways(exact, x.double(), grad.double())
        require_close(results, exact_parts, TOLERANCE[torch.float32])

    layout = "channels last" if channels_last else "NCHW"
    ways_of = "forward and backward" if backward else "forward"
    sizes = f"{batch}×{channels}×{size}×{size}, R={regions}"
    return Problem(f"{sizes}, {layout}, {ways_of}", "call", ways, gate)


@case("region_spp", "cpu", "gpu", operator="region_spp")
def region_spp(setup: Setup) -> Iterator[Problem]:
    """The pyramid of each region's box against a loop over the regions."""
    from ..peers import region as peers

    def embed(x: torch.Tensor, labels: Any, regions: int, backend: str) -> torch.Tensor:
        return fastseg.region_spp(x, labels, regions, LEVELS, backend=backend)

    def loop(x: torch.Tensor, index: fastseg.RegionIndex) -> torch.Tensor:
        return peers.spp_loop(x, index, LEVELS)

    for channels_last, backward in product((False, True), repeat=2):
        yield embedding(setup, embed, loop, channels_last, backward)


@case("region_resize", "cpu", "gpu", operator="region_resize")
def region_resize(setup: Setup) -> Iterator[Problem]:
    """Each region's box resampled to 8×8 against a loop over the regions."""
    from ..peers import region as peers

    def embed(x: torch.Tensor, labels: Any, regions: int, backend: str) -> torch.Tensor:
        return fastseg.region_resize(x, labels, regions, SIZE, backend)

    def loop(x: torch.Tensor, index: fastseg.RegionIndex) -> torch.Tensor:
        return peers.resize_loop(x, index, SIZE)

    for channels_last, backward in product((False, True), repeat=2):
        yield embedding(setup, embed, loop, channels_last, backward)
