"""Check a built `fastseg._native` with the standard library alone, under any Python.

    python tests/native_selftest.py path/to/_native.*.so

Without a path it takes the installed one. The full suite checks the kernels far more closely, but
needs PyTorch; this shows that the extension loads, computes and refuses under this interpreter.
"""

import importlib
import math
import random
import sys
from array import array
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from types import ModuleType

SIGMA, TAPS, PASSES = 5.0, 11, 2
RADIUS = TAPS // 2 * PASSES
TABLE_PAD = 16  # zeros on either side of a row of a filter table, see csrc/filter.h
TOLERANCE = {"f": 1e-5, "d": 1e-12}


def load(path: str | None) -> ModuleType:
    if path is None:
        return importlib.import_module("fastseg._native")
    loader = ExtensionFileLoader("fastseg._native", path)
    module = module_from_spec(ModuleSpec(loader.name, loader, origin=path))
    loader.exec_module(module)
    return module


def buffer(code: str, shape: tuple[int, ...], values=None) -> memoryview:
    """A writable buffer of that format and shape, zero without `values`."""
    flat = array(code, values if values is not None else [0] * math.prod(shape))
    return memoryview(flat).cast("B").cast(code, shape)  # type: ignore[call-overload]


def blur_line(line: list[float]) -> list[float]:
    """One pass of the truncated Gaussian, zero outside the line."""
    half = TAPS // 2
    weights = [math.exp(-0.5 * (k / SIGMA) ** 2) for k in range(-half, half + 1)]
    return [
        sum(w * line[i + k] for k, w in enumerate(weights, start=-half) if 0 <= i + k < len(line))
        / sum(weights)
        for i in range(len(line))
    ]


def blur(plane: list[list[float]]) -> list[list[float]]:
    for _ in range(PASSES):
        columns = [blur_line(list(column)) for column in zip(*plane, strict=True)]
        plane = [blur_line(list(row)) for row in zip(*columns, strict=True)]
    return plane


def filter_table(size: int) -> memoryview:
    """The distinct rows of the filter's matrix: the responses to unit impulses (K is symmetric)."""
    length = min(size, 2 * RADIUS + 1)
    rows = []
    for i in range(length):
        line = [float(i == j) for j in range(length)]
        for _ in range(PASSES):
            line = blur_line(line)
        padded = [0.0] * (RADIUS + TABLE_PAD) + line + [0.0] * (RADIUS + TABLE_PAD)
        rows += padded[i : i + 2 * (RADIUS + TABLE_PAD) + 1]
    return buffer("d", (length, 2 * (RADIUS + TABLE_PAD) + 1), rows)


def run_filter(native: ModuleType, code: str, planes: list, threads: int) -> list:
    count, height, width = len(planes), len(planes[0]), len(planes[0][0])
    flat = [v for plane in planes for row in plane for v in row]
    src, dst = buffer(code, (count, height, width), flat), buffer(code, (count, height, width))
    native.gaussian_filter(src, dst, filter_table(height), filter_table(width), RADIUS, threads)
    return dst.tolist()


def check_filter(native: ModuleType) -> None:
    """Planes narrower and wider than the filter equal the sum written out."""
    draw = random.Random(0)
    for height, width in ((1, 1), (7, 40), (33, 9)):
        planes = [[[draw.random() for _ in range(width)] for _ in range(height)] for _ in range(3)]
        expected = [blur(plane) for plane in planes]
        for code, tolerance in TOLERANCE.items():
            got = run_filter(native, code, planes, threads=1)
            for p in range(3):
                for y in range(height):
                    for x in range(width):
                        assert abs(got[p][y][x] - expected[p][y][x]) < tolerance, (code, p, y, x)
            assert got == run_filter(native, code, planes, threads=2), "threads change bits"


def run_iem(native: ModuleType, images: memoryview, init: memoryview, threads: int) -> tuple:
    batch, _, height, width = images.shape  # type: ignore[misc]
    masks = buffer("B", (batch, 1, height, width))
    error, steps, status = buffer("f", (batch,)), buffer("i", (batch,)), buffer("i", (batch,))
    tables = filter_table(height), filter_table(width)
    smallest = math.prod(min(v for v in t.cast("B").cast("d") if v > 0) for t in tables)
    native.iem(
        *(images, init, masks, error, steps, status, *tables),
        radius=RADIUS,
        least=max(32, int(smallest * 2**28)),
        scale=2 / 255,
        iterations=30,
        lamb=0.001,
        smoothing=1,
        boundary_only=True,
        threads=threads,
    )
    return masks.tolist(), error.tolist(), steps.tolist(), status.tolist()


def check_iem(native: ModuleType) -> None:
    """A bright square on a dark ground is found from a smaller square, and is a fixed point."""
    side, dark, bright = 24, 40, 200
    squares = [range(7, 17), range(9, 20)]
    truth = [[[int(y in s and x in s) for x in range(side)] for y in range(side)] for s in squares]
    channels = [plane for plane in truth for _ in range(3)]
    pixels = [bright if v else dark for plane in channels for row in plane for v in row]
    centre = [int(9 <= y < 15 and 9 <= x < 15) for y in range(side) for x in range(side)]
    images = buffer("B", (2, 3, side, side), pixels)
    init = buffer("B", (2, 1, side, side), centre * 2)

    masks, error, steps, status = run_iem(native, images, init, threads=2)
    assert [m for (m,) in masks] == truth
    assert status == [1, 1], status  # fixed points
    assert all(1 < s < 30 for s in steps), steps
    # Each side is inpainted with the other's colour; pixels span [-1, 1].
    assert all(abs(e - 2 * (bright - dark) * 2 / 255) < 1e-5 for e in error), error
    assert (masks, error, steps, status) == run_iem(native, images, init, threads=1)

    empty = buffer("B", (2, 1, side, side))
    masks, error, steps, status = run_iem(native, images, empty, threads=1)
    assert (error, steps, status) == ([0.0, 0.0], [0, 0], [3, 3])  # emptied


def check_region(native: ModuleType) -> None:
    """Sums, maxima and embeddings of two regions and an ignored pixel, and the sums given back."""
    labels = buffer("i", (1, 2, 3), [0, 0, 1, 0, -5, 1])
    copy = buffer("i", (1, 2, 3))
    runs, num_runs = buffer("i", (1, 6, 3)), buffer("i", (1,))
    counts, boxes = buffer("i", (1, 2)), buffer("i", (1, 2, 4))
    assert native.region_index(labels, copy, runs, num_runs, counts, boxes, threads=1) == -1
    assert copy.tolist() == [[[0, 0, 1], [0, -1, 1]]]
    assert num_runs.tolist() == [4]
    first: list = runs.tolist()[0]  # type: ignore[assignment]
    assert first[:4] == [[0, 2, 0], [2, 3, 1], [3, 4, 0], [5, 6, 1]]
    assert (counts.tolist(), boxes.tolist()) == ([[3, 2]], [[[0, 0, 2, 2], [0, 2, 2, 3]]])
    for code in "fd":
        x, z = buffer(code, (1, 1, 6), [1, 2, 3, 4, 9, 8]), buffer(code, (1, 2, 1))
        native.region_sum(x, runs, num_runs, z, channels_last=False, threads=1)
        assert z.tolist() == [[[7.0], [11.0]]]
        native.region_unpool(z, runs, num_runs, x, channels_last=False, threads=1)
        assert x.tolist() == [[[7.0, 7.0, 11.0, 7.0, 0.0, 11.0]]]
        x, at = buffer(code, (1, 1, 6), [1, 4, 3, 4, 9, 8]), buffer("i", (1, 2, 1))
        native.region_max(x, runs, num_runs, counts, z, at, channels_last=False, threads=1)
        assert (z.tolist(), at.tolist()) == ([[[4.0], [8.0]]], [[[1], [5]]])
        native.region_spp(x, copy, boxes, [1], 5.0, z, at, channels_last=False, threads=1)
        assert (z.tolist(), at.tolist()) == ([[[5.0], [8.0]]], [[[-1], [5]]])
        box = buffer(code, (1, 2, 1, 1, 2))
        native.region_resize(x, copy, boxes, box, channels_last=False, threads=1)
        assert box.tolist() == [[[[[2.5, 6.5]]], [[[5.5, 5.5]]]]]
        native.region_spread(box, copy, boxes, x, channels_last=False, threads=1)
        assert x.tolist() == [[[1.25, 3.25, 5.5, 1.25, 3.25, 5.5]]]


def check_joint(native: ModuleType) -> None:
    """Products of 2×2 pixels for nine displacements, their sum, and spectra there and back."""
    for code, tolerance in TOLERANCE.items():
        shape = (1, 1, 2, 2)
        p, q = buffer(code, shape, [1, 2, 3, 4]), buffer(code, shape, [1, 10, 100, 1000])
        joint, sums = buffer("d", (1, 3, 3, 1, 1)), buffer(code, (1, 2, 2))
        native.displaced_joint(p, q, joint, threads=2)
        sums_of: list = joint.tolist()
        assert [v for row in sums_of[0] for ((v,),) in row] == [
            4,
            43,
            30,
            402,
            4321,
            3010,
            200,
            2100,
            1000,
        ]
        native.box_sum(buffer(code, (1, 2, 2), [1, 10, 100, 1000]), sums, radius=1, threads=1)
        assert sums.tolist() == [[[1111.0] * 2] * 2]

        # One tile in a window of 4×4, three columns of frequencies: a weight of 1 changes nothing.
        turns = [[math.pi / 2 * f * x for f in range(3)] for x in range(4)]
        rest, twice = [0.0] * 13, (1 / 16, 2 / 16, 1 / 16)
        parts = (math.cos, lambda angle: -math.sin(angle))
        forth = [[v for part in parts for v in (*map(part, line), *rest)] for line in turns]
        lines = [[w * v for w, v in zip((*twice, *rest) * 2, line, strict=True)] for line in forth]
        back = [v for f in range(32) for v in (lines[1][f], lines[2][f], *[0.0] * 14)]
        table = buffer(code, (4, 32), [v for line in forth for v in line])
        cut = {"rows": (1, 2, 4), "columns": (1, 2, 4), "radius": 1, "threads": 2}
        cut["roots"] = buffer(code, (2, 4), [1, 0, -1, 0, 0, -1, 0, 1])
        hat, ones = (buffer(code, (4, 1, 1, 2, 16), ([1] * 16 + [0] * 16) * 4) for _ in "ab")
        native.tile_spectra(q, hat, around=True, table=table, **cut)
        mixed, out = buffer(code, (4, 1, 1, 2, 16)), buffer(code, shape)
        native.mix_spectra(ones, hat, mixed, threads=1)
        native.tile_pixels(mixed, out, table=buffer(code, (32, 16), back), **cut)
        planes: list = out.tolist()
        got = zip([v for row in planes[0][0] for v in row], (1, 10, 100, 1000), strict=True)
        assert all(abs(v - expected) < 1000 * tolerance for v, expected in got), planes
        native.join_spectra(hat, hat, mixed, add=False, threads=1)
        first: list = mixed.tolist()
        assert abs(first[0][0][0][0][0] - 1111**2) < 1111**2 * tolerance, "the square of the sum"


def check_masked_conv(native: ModuleType) -> None:
    """Four pixels, each of which sees what is before it, and the weights' gradient."""
    for code in "fd":
        x, out = buffer(code, (1, 1, 2, 2), [1, 2, 3, 4]), buffer(code, (1, 1, 2, 2))
        weight = buffer(code, (1, 1, 3, 3), range(1, 10))
        native.masked_conv(x, weight, None, None, out, relu=False, threads=1)
        assert out.tolist() == [[[[8.0, 23.0], [41.0, 67.0]]]]
        bias = buffer(code, (1,), [-10])
        native.masked_conv(x, weight, bias, x, out, relu=True, threads=2)
        assert out.tolist() == [[[[0.0, 15.0], [34.0, 61.0]]]]
        native.masked_conv_weight(buffer(code, (1, 1, 2, 2), [1] * 4), x, weight, threads=2)
        assert weight.tolist() == [[[[0.0, 0.0, 0.0], [1.0, 3.0, 2.0], [4.0, 10.0, 0.0]]]]


def check_slic(native: ModuleType) -> None:
    """Four coloured quadrants are found; a flat image keeps the grid."""
    side, half = 20, 10
    quadrants = [2 * (y >= half) + (x >= half) for y in range(side) for x in range(side)]
    pixels = [60 * q for q in quadrants] + [0] * side**2
    images = buffer("B", (2, 1, side, side), pixels)
    seeds = buffer("f", (2, 4, 2), [float(v) for y in (5, 15) for x in (5, 15) for v in (y, x)] * 2)
    results: list = []
    for threads in (1, 2):
        labels = buffer("i", (2, side, side))
        native.slic(
            images,
            low=buffer("f", (2,)),
            range=buffer("f", (2,), [180.0, 0.0]),
            seeds=seeds,
            weight=buffer("f", (2,), [0.01, 0.01]),
            reach=buffer("i", (2, 2), [20] * 4),
            sizes=buffer("i", (2, 2), [50, 300] * 2),
            labels=labels,
            iterations=10,
            lab=False,
            scale=10.0,
            zero=False,
            seek=False,
            connect=True,
            start=0,
            threads=threads,
        )
        results.append(labels.tolist())
    assert results[0] == results[1], "threads change labels"
    assert results[0][0] == [quadrants[y * side : (y + 1) * side] for y in range(side)]
    # Row and column 10 are as far from 5 as from 15 and go to the first.
    assert results[0][1] == [[2 * (y > 10) + (x > 10) for x in range(side)] for y in range(side)]


def check_ncut(native: ModuleType) -> None:
    """Pixels beside each other of two colours, by the sum written out; ones give the degrees."""
    width, a, b = 40, math.exp(-0.25), math.exp(-0.25 - 1)  # of one colour, and of two
    line = [float(x % 3) for x in range(width)]
    colours = [0.0] * 20 + [10.0] * 20
    for code, tolerance in TOLERANCE.items():
        p = buffer(code, (1, 2, 1, width), line + [1.0] * width)
        filtered, degree = buffer(code, (1, 2, 1, width)), buffer(code, (1, 1, width))
        totals = buffer("d", (1, 2, 2))
        native.ncut_sums(
            *(p, buffer(code, (1, 1, 1, width), colours), filtered, degree, totals),
            radius=2,
            color_rate=0.01,
            space_rate=0.25,
            threads=1,
        )
        planes: list = filtered.tolist()[0]  # type: ignore[assignment]
        (first,), (ones,) = planes
        for x in range(width):
            near = [(i, b if {i, x} == {19, 20} else a) for i in (x - 1, x + 1) if 0 <= i < width]
            expected = line[x] + sum(w * line[i] for i, w in near)
            assert abs(first[x] - expected) < 10 * tolerance, (code, x)
            assert abs(ones[x] - 1 - sum(w for _, w in near)) < 10 * tolerance, (code, x)
        assert degree.tolist() == [[ones]]
        sums: list = totals.tolist()[0]  # type: ignore[assignment]
        assert sums[0][1] == sums[1][1], "of ones both sums are that of the degrees"


def check_confusion(native: ModuleType) -> None:
    """Labels of every type; negative and ignored ones left out, too large ones counted apart."""
    pred, target = [0, 0, 1, 1, 2, 0, 1], [2, 2, 0, 9, 0, 3, 1]
    for code in "Bhiq":
        counts = buffer("q", (2 * 3 + 3,))
        first, second = buffer(code, (7,), pred), buffer("q", (7,), target)
        native.confusion(first, second, counts, ignored=9, clusters=2, threads=2)
        assert counts.tolist() == [0, 0, 2, 1, 1, 0, 1, 1, 1], code
    counts = buffer("q", (2 * 3 + 3,))
    first = buffer("i", (7,), [-1, *pred[1:]])
    native.confusion(first, second, counts, ignored=-1, clusters=2, threads=1)
    assert counts.tolist() == [0, 0, 1, 1, 1, 0, 1, 2, 1]


def check_refusals(native: ModuleType) -> None:
    """Buffers of another format, rank, shape or layout are refused by name, not read."""

    def attempt(error: type[Exception], text: str, **changed: object) -> None:
        arguments = {
            "src": buffer("f", (2, 5, 6)),
            "dst": buffer("f", (2, 5, 6)),
            "table_y": filter_table(5),
            "table_x": filter_table(6),
            "radius": RADIUS,
            "threads": 1,
        }
        message = None
        try:
            native.gaussian_filter(**{**arguments, **changed})
        except error as refusal:
            message = str(refusal)
        assert message is not None, f"{list(changed)} was accepted"
        assert text in message, f"{text!r} is not in {message!r}"

    attempt(TypeError, "`dst`", dst=buffer("d", (2, 5, 6)))
    attempt(TypeError, "`src`", src=buffer("i", (2, 5, 6)))
    attempt(ValueError, "`src`", src=buffer("f", (10, 6)))
    attempt(ValueError, "`dst`", dst=buffer("f", (2, 6, 5)))
    attempt(ValueError, "`dst`", dst=buffer("f", (4, 5, 6))[::2])
    attempt(ValueError, "`table_y`", table_y=filter_table(4))
    attempt(BufferError, "", dst=buffer("f", (2, 5, 6)).toreadonly())


def main() -> None:
    native = load(sys.argv[1] if len(sys.argv) > 1 else None)
    sets = native.isas()
    checks = (
        *(check_filter, check_iem, check_region, check_joint, check_masked_conv, check_slic),
        *(check_ncut, check_confusion, check_refusals),
    )
    for name in sets:
        native.set_isa(name)
        for check in checks:
            check(native)
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"Python {version}, {', '.join(sets)}: {len(checks) * len(sets)} checks passed")


if __name__ == "__main__":
    main()
