"""IEM at the paper's size: 128×128 RGB, 150 iterations, the authors' initial square."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch

import fastseg
from fastseg import IEMResult, IEMStatus

from ..images import image_a_thread, photographs
from ..memory import peak_of
from ..registry import TOLERANCE, Aim, Problem, Setup, Variant, Work, case, require, require_close

SQUARE = 78  # of 128 pixels: the authors' [S//5, S − S//5)
# Share of the pixels as in the fp64 reference. A pixel that rounding turns may turn others, and on
# the way to the fixed point more so than there; the peers' order of arithmetic is not ours to set.
LEAST_AGREEMENT, PEERS_LEAST_AGREEMENT = 0.999, 0.99

# Of the filter alone.
SHAPES = ((8, 4, 128, 128), (2, 4, 512, 512))
GPU_SHAPES = ((64, 4, 128, 128), (8, 4, 512, 512))
QUICK_SHAPES = ((1, 2, 40, 40),)


def segment(images: torch.Tensor, iterations: int, backend: str) -> IEMResult:
    return fastseg.iem(images, SQUARE, iterations, backend=backend)


def square(images: torch.Tensor) -> torch.Tensor:
    """The same initial masks for the peers: (B,1,H,W) bool."""
    batch, _, height, width = images.shape
    side = round(SQUARE * min(height, width) / 128)
    top, left = (height - side) // 2, (width - side) // 2
    mask = torch.zeros(batch, 1, height, width, dtype=torch.bool, device=images.device)
    mask[..., top : top + side, left : left + side] = True
    return mask


@lru_cache(maxsize=16)
def exact(count: int, size: int, iterations: int, device: str) -> torch.Tensor:
    """Masks of the photographs by the reference in fp64: (count,1,size,size) bool."""
    return reference(photographs(count, size).to(device).double() / 255, iterations)


def reference(images: torch.Tensor, iterations: int) -> torch.Tensor:
    """The fastest way to the reference's masks."""
    run = partial(masks_by, iterations=iterations, backend="reference")
    return image_a_thread(run, images) if images.device.type == "cpu" else run(images)


def masks_by(images: torch.Tensor, iterations: int, backend: str) -> torch.Tensor:
    return segment(images, iterations, backend).masks


def masks_of(result: Any) -> torch.Tensor:
    return result.masks if isinstance(result, IEMResult) else result


def check_masks(results: dict[str, Any], truth: torch.Tensor) -> None:
    """Each result against the fp64 reference's masks."""
    for name, result in results.items():
        share = (masks_of(result) == truth).double().mean().item()
        least = LEAST_AGREEMENT if isinstance(result, IEMResult) else PEERS_LEAST_AGREEMENT
        require(
            share >= least,
            f"{name}: {share:.4%} of the pixels as in the fp64 reference, need {least:.1%}",
        )


def filter_work(images: torch.Tensor, iterations: float) -> dict[str, Any]:
    """What the definition asks for when every pixel is filtered anew in each iteration.

    By linearity C+1 planes forward and back, 2 passes, 2 axes, 11 taps. A kernel that only filters
    where the mask changed does less, so its share of the bound may exceed 1: then no program that
    filters whole images can be as fast on this machine.
    """
    batch, channels, height, width = images.shape
    per_pixel = 2 * (channels + 1) * 2 * 2 * 11 * 2
    return {
        "flops": per_pixel * height * width * iterations * batch,
        "bytes": images.nbytes + batch * height * width,
    }


def variants(
    setup: Setup, images: torch.Tensor, iterations: int, stop_early: bool, work: Callable
) -> list[Variant]:
    """Ours, and what else there is on the images' device."""
    from ..peers import inpaint as peers

    init = square(images)
    published = partial(peers.published, iterations=iterations)
    batched = Variant("published program", partial(published, images, init), work, ("≥", 100))
    found = [
        Variant(setup.backend, partial(segment, images, iterations, setup.backend), work),
        Variant("fastseg reference", partial(reference, images, iterations), work),
    ]
    if setup.gpu:
        return [*found, batched]
    loop = partial(peers.filter_loop, images, init, iterations, stop_early=stop_early)
    opencv = partial(loop, filters=peers.OpenCVFilters)
    scipy = partial(loop, filters=peers.SciPyFilters)
    apart = partial(image_a_thread, published, images, init)
    found += [
        Variant("published, image a thread", apart, work, ("≥", 100)),
        Variant("OpenCV filters", opencv, work, ("≥", 8)),
        Variant("SciPy filters", scipy, work),
    ]
    return found if setup.quick else [*found, batched]


def describe(images: torch.Tensor, iterations: int) -> str:
    return f"{'×'.join(map(str, images.shape))} uint8, {iterations} iterations"


@case("iem_iteration", "cpu", "gpu", operator="iem")
def iem_iteration(setup: Setup) -> Iterator[Problem]:
    """One iteration on one photograph, counted where none has reached a fixed point."""
    count, iterations = (4, 20) if setup.quick else (16, 60)
    images = photographs(count, 128).to(setup.device)
    work = Work(count * iterations, **filter_work(images, iterations))

    def gate(results: dict[str, Any]) -> None:
        ours = results[setup.backend]
        full = (ours.steps == iterations) & (ours.status == IEMStatus.EXHAUSTED)
        require(bool(full.all()), f"an image stopped early: steps {ours.steps.tolist()}")
        check_masks(results, exact(count, 128, iterations, setup.device))

    ways = variants(setup, images, iterations, False, lambda _: work)
    yield Problem(describe(images, iterations), "image·iteration", ways, gate)


@case("iem_end_to_end", "cpu", "gpu", operator="iem")
def iem_end_to_end(setup: Setup) -> Iterator[Problem]:
    """A whole run, which all but the published program may end at a fixed point."""
    count, iterations = (2, 40) if setup.quick else (8, 150)
    images = photographs(count, 128).to(setup.device)

    def gate(results: dict[str, Any]) -> None:
        check_masks(results, exact(count, 128, iterations, setup.device))

    def work(result: Any) -> Work:
        steps = result.steps.double().mean().item() if isinstance(result, IEMResult) else iterations
        return Work(count, **filter_work(images, steps))

    ways = variants(setup, images, iterations, True, work)
    yield Problem(describe(images, iterations), "image", ways, gate)


@case("iem_size", "cpu", "gpu", operator="iem")
def iem_size(setup: Setup) -> Iterator[Problem]:
    """One iteration against the picture's size: the same photographs, the square in proportion."""
    sizes = (128, 64, 256) if setup.quick else (128, 64, 256, 512, 1024)
    iterations, first_iterations = 150, 5
    pictures = {f"{size}²": photographs(2, size).to(setup.device) for size in sizes}

    def gate(results: dict[str, Any]) -> None:
        for size, name in zip(sizes, pictures, strict=True):
            begun = segment(pictures[name], first_iterations, setup.backend)
            check_masks({name: begun}, exact(2, size, first_iterations, setup.device))

    def work(images: torch.Tensor, result: IEMResult) -> Work:
        steps = result.steps.sum().item()
        return Work(steps, **filter_work(images, steps / len(images)))

    ways = [
        Variant(
            name,
            partial(segment, images, iterations, setup.backend),
            partial(work, images),
            ("≤", 6.0) if name == "512²" else None,
        )
        for name, images in pictures.items()
    ]
    shape = f"2×3×size×size uint8, {iterations} iterations, {setup.backend}"
    yield Problem(shape, "image·iteration", ways, gate)


@case("iem_batch", "cpu", "gpu", operator="iem")
def iem_batch(setup: Setup) -> Iterator[Problem]:
    """A whole run against the number of images in the call, and its peak memory on the CPU."""
    counts, iterations = ((1, 16), 20) if setup.quick else ((1, 10, 100, 1000), 150)

    def gate(results: dict[str, Any]) -> None:
        alone = segment(photographs(16, 128).to(setup.device), iterations, setup.backend).masks
        for name, result in results.items():
            expected = alone[torch.arange(len(result.masks)) % len(alone)]
            same = torch.equal(result.masks, expected)
            require(same, f"{name}: an image's mask depends on the batch around it")

    def variant(count: int) -> Variant:
        images = photographs(count, 128).to(setup.device)
        traffic = images.nbytes + count * 128 * 128
        run = partial(segment, images, iterations, setup.backend)
        memory = partial(peak_of, partial(prepare_batch, count, iterations, setup.backend))
        return Variant(
            f"batch of {count}",
            run,
            lambda _: Work(count, bytes=traffic),
            memory=None if setup.gpu else memory,
            aim=Aim("per_second", 1000 / 0.3) if count == 1000 else None,
        )

    shape = f"batch×3×128×128 uint8, {iterations} iterations, {setup.backend}"
    yield Problem(shape, "image", [variant(count) for count in counts], gate)


def prepare_batch(count: int, iterations: int, backend: str) -> Callable[[], IEMResult]:
    """For `peak_of`: the images are there, the kernel is loaded, its state yet to be allocated."""
    images = photographs(count, 128)
    segment(photographs(16, 16), 2, backend)
    return partial(segment, images, iterations, backend)


@case("gaussian_filter", "cpu", "gpu", operator="gaussian_filter")
def gaussian_filter(setup: Setup) -> Iterator[Problem]:
    """The filter of `gaussian_inpaint` alone: two passes of 11 taps, zeros around the image."""
    from ..peers import inpaint as peers

    for shape in QUICK_SHAPES if setup.quick else GPU_SHAPES if setup.gpu else SHAPES:
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(setup.device)
        # 4(2r+1) a pixel, the taps of both passes being 2r+1; in and out of memory once.
        work = Work(1, flops=4 * 21 * x.numel(), bytes=2 * x.nbytes)

        def gate(results: dict[str, Any], x=x) -> None:
            exact = fastseg.gaussian_filter(x.double(), backend="reference")
            require_close(results, (exact,), TOLERANCE[torch.float32])

        ours = partial(fastseg.gaussian_filter, x, backend=setup.backend)
        ways: list[tuple[str, Callable, float]] = [
            (setup.backend, ours, 0),
            ("grouped convolutions", partial(peers.conv_filter, x), 2),
        ]
        if not setup.gpu:
            ways.append(("SciPy", partial(peers.scipy_filter, x), 4))
        elif peers.HAS_CUPY:
            ways.append(("cupyx.scipy", partial(peers.cupyx_filter, x), 2))
        variants = [
            Variant(name, run, partial(always, work), ("≥", goal) if goal else None,
                    graph=name != "cupyx.scipy")
            for name, run, goal in ways
        ]  # fmt: skip
        yield Problem("×".join(map(str, shape)), "call", variants, gate)


def always(work: Work, _: Any) -> Work:
    return work
