"""The CPU kernels of csrc/*.cpp, on buffers. Private: call fastseg's public functions."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Buffer: TypeAlias = NDArray[Any] | memoryview  # whatever has the buffer protocol

def isa() -> str: ...
def isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def confusion(
    pred: Buffer, target: Buffer, counts: Buffer, ignored: int, clusters: int, threads: int
) -> None: ...
def gaussian_filter(
    src: Buffer, dst: Buffer, table_y: Buffer, table_x: Buffer, radius: int, threads: int
) -> None: ...
def iem(
    images: Buffer,
    init: Buffer,
    masks: Buffer,
    error: Buffer,
    steps: Buffer,
    status: Buffer,
    table_y: Buffer,
    table_x: Buffer,
    radius: int,
    least: int,
    scale: float,
    iterations: int,
    lamb: float,
    smoothing: int,
    boundary_only: bool,
    threads: int,
) -> None: ...
def attention(
    q: Buffer,
    k: Buffer,
    v: Buffer,
    kt: Buffer,
    out: Buffer,
    norm: Buffer,
    count: int,
    causal: bool,
    threads: int,
) -> None: ...
def attention_back(
    q: Buffer,
    k: Buffer,
    v: Buffer,
    kt: Buffer,
    vt: Buffer,
    g: Buffer,
    norm: Buffer,
    delta: Buffer,
    dq: Buffer,
    dk: Buffer,
    dv: Buffer,
    count: int,
    causal: bool,
    threads: int,
) -> None: ...
def hint_large(dst: Buffer) -> None: ...
def box_sum(src: Buffer, dst: Buffer, radius: int, threads: int) -> None: ...
def displaced_joint(p: Buffer, q: Buffer, joint: Buffer, threads: int) -> None: ...
def tile_spectra(
    src: Buffer,
    dst: Buffer,
    rows: tuple[int, int, int],
    columns: tuple[int, int, int],
    radius: int,
    around: bool,
    roots: Buffer,
    table: Buffer,
    threads: int,
) -> None: ...
def tile_pixels(
    src: Buffer,
    dst: Buffer,
    rows: tuple[int, int, int],
    columns: tuple[int, int, int],
    radius: int,
    roots: Buffer,
    table: Buffer,
    threads: int,
) -> None: ...
def join_spectra(p: Buffer, q: Buffer, joint: Buffer, add: bool, threads: int) -> None: ...
def mix_spectra(weights: Buffer, q: Buffer, out: Buffer, threads: int) -> None: ...
def masked_conv(
    x: Buffer,
    weight: Buffer,
    bias: Buffer | None,
    residual: Buffer | None,
    out: Buffer,
    relu: bool,
    threads: int,
) -> None: ...
def masked_conv_weight(grad: Buffer, x: Buffer, weight: Buffer, threads: int) -> None: ...
def ncut_sums(
    p: Buffer,
    colours: Buffer,
    filtered: Buffer,
    degree: Buffer,
    totals: Buffer,
    radius: int,
    color_rate: float,
    space_rate: float,
    threads: int,
) -> None: ...
def region_index(
    labels: Buffer,
    copy: Buffer,
    runs: Buffer,
    num_runs: Buffer,
    counts: Buffer,
    boxes: Buffer,
    threads: int,
) -> int: ...
def region_sum(
    x: Buffer, runs: Buffer, num_runs: Buffer, out: Buffer, channels_last: bool, threads: int
) -> None: ...
def region_max(
    x: Buffer,
    runs: Buffer,
    num_runs: Buffer,
    counts: Buffer,
    out: Buffer,
    argmax: Buffer,
    channels_last: bool,
    threads: int,
) -> None: ...
def region_unpool(
    z: Buffer, runs: Buffer, num_runs: Buffer, out: Buffer, channels_last: bool, threads: int
) -> None: ...
def region_scatter(
    z: Buffer, at: Buffer, out: Buffer, channels_last: bool, threads: int
) -> None: ...
def region_spp(
    x: Buffer,
    labels: Buffer,
    boxes: Buffer,
    levels: list[int],
    fill: float | None,
    out: Buffer,
    argmax: Buffer | None,
    channels_last: bool,
    threads: int,
) -> None: ...
def region_resize(
    x: Buffer, labels: Buffer, boxes: Buffer, z: Buffer, channels_last: bool, threads: int
) -> None: ...
def region_spread(
    z: Buffer, labels: Buffer, boxes: Buffer, x: Buffer, channels_last: bool, threads: int
) -> None: ...
def extremes(images: Buffer, least: Buffer, most: Buffer, threads: int) -> None: ...
def rgb_to_lab(images: Buffer, low: Buffer, range: Buffer, out: Buffer, threads: int) -> None: ...
def slic(
    images: Buffer,
    low: Buffer,
    range: Buffer,
    seeds: Buffer,
    weight: Buffer,
    reach: Buffer,
    sizes: Buffer,
    labels: Buffer,
    iterations: int,
    lab: bool,
    scale: float,
    zero: bool,
    seek: bool,
    connect: bool,
    start: int,
    threads: int,
) -> None: ...
