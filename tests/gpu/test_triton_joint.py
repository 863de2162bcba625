"""The Triton kernels of joints against the reference: compiled on a GPU, else interpreted."""

from functools import partial

import pytest
import torch

pytest.importorskip("triton")

from benchmarks.compile import recorded
from fastseg import backends, displaced_joint, iic_loss, joint_sum
from fastseg.ops.joint import _reference, _triton, api, iic

# Where there is a GPU, all of these need it: `pytest -m gpu` then runs them.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
pytestmark += [pytest.mark.usefixtures("poisoned")]

CASES = [  # (B,K,L,H,W), T
    ((1, 1, 1, 1, 1), 0),
    ((2, 3, 2, 9, 13), 1),
    ((1, 17, 5, 8, 7), 1),  # more classes than the smallest tile
    ((3, 2, 3, 5, 11), 2),
]


@pytest.fixture
def backend(device, monkeypatch):
    """The name by which the public functions reach the Triton kernels."""
    if device.type == "cuda":
        return "triton"
    load = backends.load
    for module in (api, iic):
        monkeypatch.setattr(module, "DEVICES", ("cpu",))
    monkeypatch.setattr(
        backends,
        "load",
        lambda operator, *where: load(operator, *where) if operator == "plane_spectra" else _triton,
    )
    return "auto"


def fields(sizes, dtype, device="cpu"):
    batch, classes, others, height, width = sizes
    rng = torch.Generator().manual_seed(0)
    p = torch.rand((batch, classes, height, width), generator=rng, dtype=dtype)
    return p.to(device), torch.rand((batch, others, height, width), generator=rng, dtype=dtype).to(
        device
    )


def assert_close(actual, expected, dtype):
    error = (actual.double().cpu() - expected).norm() / expected.norm()
    assert error <= (1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("sizes", "radius"), CASES)
def test_joint_equals_the_reference(sizes, radius, dtype, device):
    p, q = fields(sizes, dtype)
    expected = _reference.displaced_joint(p.double(), q.double(), radius)
    actual = _triton.displaced_joint(p.to(device), q.to(device), radius)
    assert actual.dtype == dtype
    assert_close(actual, expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "radius"), [((2, 3, 9, 13), 2), ((1, 1, 5, 40), 4)])
def test_box_sum_equals_the_reference(shape, radius, dtype, device):
    x = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    actual = _triton.box_sum(x.to(device), radius)
    assert_close(actual, _reference.box_sum(x.double(), radius), dtype)


@pytest.mark.parametrize(
    ("per_displacement", "algorithm"), [(True, "direct"), (True, "fft"), (False, "direct")]
)
def test_loss_and_gradients(per_displacement, algorithm, device, backend):
    p, q = (x.requires_grad_() for x in fields((2, 3, 3, 6, 7), torch.float32, device))

    def run(p, q, backend):
        options = {"algorithm": algorithm, "backend": backend}
        loss = iic_loss(p, q, 1, 1, None, per_displacement, **options)
        return loss.detach(), *torch.autograd.grad(loss, (p, q))

    actual = run(p, q, backend)
    joint = joint_sum(p, q, 1, backend=backend)
    assert_close(
        joint, displaced_joint(p, q, 1, backend=backend).double().cpu().sum((0, 1)), p.dtype
    )
    p, q = (x.detach().double().cpu().requires_grad_() for x in (p, q))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "load", lambda operator, device, backend: _reference)
        algorithm = "direct"
        expected = run(p, q, "auto")
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double().cpu(), other, rtol=1e-4, atol=1e-6)


def test_shares_are_summed(device, monkeypatch):
    p, q = fields((2, 3, 3, 20, 11), torch.float32)
    whole = _triton.displaced_joint(p.to(device), q.to(device), 1)
    monkeypatch.setattr(_triton, "BLOCKS", 9)  # a block a displacement
    one = _triton.displaced_joint(p.to(device), q.to(device), 1)
    torch.testing.assert_close(one, whole)
    assert torch.equal(one, _triton.displaced_joint(p.to(device), q.to(device), 1))


def joints(classes, device="cpu"):
    """Float64, as the loss has them: rounding below nothing, zeros, and one of nothing at all."""
    rng = torch.Generator().manual_seed(0)
    joint = torch.rand((2, 3, classes, classes), generator=rng, dtype=torch.float64)
    joint[0, 0] *= torch.eye(classes, dtype=torch.float64)
    joint[0, 1, 0] = -1e-9
    joint[1, 2] = 0
    return joint.to(device)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 7, 40])
def test_terms_of_the_loss_and_their_gradient(classes, symmetric, device):
    joint = joints(classes).requires_grad_()
    expected = _reference.iic_terms(joint, 1.5, symmetric)
    weights = torch.arange(1, 7, dtype=torch.float64).view(2, 3)
    (of_joint,) = torch.autograd.grad(expected, joint, weights)
    joint = joint.detach()
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    close(_reference.iic_terms_back(weights, joint, 1.5, symmetric), of_joint)
    joint, weights = joint.to(device), weights.to(device)
    terms = _triton.iic_terms(joint, 1.5, symmetric)
    close(terms.cpu(), expected.detach())
    actual = _triton.iic_terms_back(weights, joint, 1.5, symmetric)
    close(actual.cpu(), of_joint)
    assert terms[1, 2] == 0


def test_terms_are_differentiable_twice(device, backend):
    joint = joints(3, device)[0, 2].requires_grad_()
    terms = lambda joint: torch.ops.fastseg.iic_terms(joint, 1.5, True, backend)  # noqa: E731
    assert torch.autograd.gradcheck(terms, joint)
    assert torch.autograd.gradgradcheck(terms, joint)


@pytest.mark.parametrize("back", [False, True])
def test_no_access_outside_the_joints(back, device):
    """The launch again between walls: NaN around what it reads, known values around the rest."""
    joint = joints(7, device)
    terms = _triton.iic_terms(joint, 1.5, True)
    with recorded() as launches:
        if back:
            _triton.iic_terms_back(terms, joint, 1.5, True)
        else:
            _triton.iic_terms(joint, 1.5, True)
    (launch,) = launches
    written = "p_grad" if back else "p_terms"
    expected = _triton.iic_terms_back(terms, joint, 1.5, True) if back else terms
    inside, memory = {}, {}
    for name, tensor in (("p_joint", joint), ("p_terms", terms), ("p_grad", joint)):
        memory[name] = tensor.new_full(
            (tensor.numel() + 4096,), 7 if name == written else torch.nan
        )
        inside[name] = memory[name][2048:-2048].view(tensor.shape)
        inside[name].copy_(tensor)
    launch.kernel[launch.blocks](**(launch.arguments | inside), **launch.options)
    assert (memory[written][:2048] == 7).all()
    assert (memory[written][-2048:] == 7).all()
    assert torch.equal(inside[written], expected)


@pytest.mark.parametrize("classes", [1, 24, 64])
def test_launch_of_terms(classes):
    """A joint a block, all of it in one tile."""
    joint = torch.empty((21, 21, classes, classes), device="meta", dtype=torch.float64)
    with recorded() as launches:
        terms = _triton.iic_terms(joint, 1.0, True)
        grad = _triton.iic_terms_back(terms, joint, 1.0, True)
    assert terms.shape == (21, 21)
    assert grad.shape == joint.shape
    for launch, back in zip(launches, (False, True), strict=True):
        assert set(launch.arguments) == set(launch.kernel.arg_names)
        assert launch.blocks == (441,)
        assert launch.arguments["BACK"] == back
        assert launch.arguments["BLOCK_K"] >= max(classes, 2)


SPECTRA = [  # (I,M,y,x), J
    ((1, 1, 1, 1), 1),
    ((3, 2, 7, 5), 9),  # a tile that is not full on either side
    ((9, 3, 12, 13), 2),  # more frequencies than a block has
]


def spectra(shape, others, dtype, device="cpu"):
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(shape, generator=rng, dtype=dtype)
    # As a transform over the batch leaves it: what is summed over does not lie inside.
    b = torch.randn((shape[1], others, *shape[2:]), generator=rng, dtype=dtype).transpose(0, 1)
    return a.to(device), b.to(device)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(("shape", "others"), SPECTRA)
def test_products_of_spectra_equal_the_definition(shape, others, dtype, device):
    a, b = spectra(shape, others, dtype)
    expected = torch.einsum("imyx,jmyx->ijyx", a.conj().cdouble(), b.cdouble())
    actual = _triton.spectral_products(a.to(device), b.to(device))
    assert actual.dtype == dtype
    error = (actual.cpu() - expected).norm() / expected.norm()
    assert error <= (1e-13 if dtype == torch.complex128 else 1e-6)
    assert torch.equal(actual, _triton.spectral_products(a.to(device), b.to(device)))


def test_spectra_are_kept_for_the_gradients(device, backend, monkeypatch):
    shapes = []
    forth, back = _triton._transforms(device)

    def counted(x, *size):
        shapes.append(tuple(x.shape))
        return forth(x, *size)

    monkeypatch.setattr(_triton, "_transforms", lambda device: (counted, back))
    p, q = (x.requires_grad_() for x in fields((4, 2, 3, 6, 7), torch.float32, device))
    joint = displaced_joint(p, q, 1, algorithm="fft", backend=backend)
    assert shapes == [p.shape, q.shape]
    shapes.clear()
    torch.autograd.grad(joint.sum(), (p, q))
    assert {shape[0] for shape in shapes} == {2, 3}  # joints, no images
    shapes.clear()
    with torch.no_grad():
        displaced_joint(p, q, 1, algorithm="fft", backend=backend)
    assert len(shapes) == 2


def test_no_access_outside_spectra(device):
    a, b = spectra(*SPECTRA[1], torch.complex64, device)
    with recorded() as launches:
        _triton.spectral_products(a, b)
    (launch,) = launches
    arguments = launch.arguments

    def walled(name, value):
        parts = arguments[name]
        memory = parts.new_full((parts.numel() + 4096,), value)
        inside = memory[2048:-2048].as_strided(parts.shape, parts.stride(), 2048)
        return inside, memory

    inside, memories = {}, {}
    for name, value in (("p_a", torch.nan), ("p_b", torch.nan), ("p_out", 7.0)):
        inside[name], memories[name] = walled(name, value)
        if name != "p_out":
            inside[name].copy_(arguments[name])
    launch.kernel[launch.blocks](**(arguments | inside), **launch.options)
    written = memories["p_out"]
    assert (written[:2048] == 7).all()
    assert (written[-2048:] == 7).all()
    expected = torch.view_as_real(_triton.spectral_products(a, b)).flatten(2)
    assert torch.equal(inside["p_out"], expected)


@pytest.mark.parametrize(
    ("shape", "others"),
    [*SPECTRA, ((24, 60, 216, 109), 24), ((24, 24, 216, 109), 60), ((3, 2, 40_000, 20_001), 3)],
)
def test_launch_of_spectra(shape, others):
    """Every pair and every frequency in one block, in one dimension of the grid."""
    a = torch.empty(shape, device="meta", dtype=torch.complex64)
    b = torch.empty((shape[1], others, *shape[2:]), device="meta", dtype=torch.complex64)
    with recorded() as launches:
        out = _triton.spectral_products(a, b.transpose(0, 1))
    (launch,) = launches
    arguments = launch.arguments
    assert set(arguments) == set(launch.kernel.arg_names)
    assert out.shape == (shape[0], others, *shape[2:])
    numbers = 2 * shape[2] * shape[3]
    assert [arguments[name] for name in ("rows", "columns", "terms", "numbers")] == [
        shape[0], others, shape[1], numbers,
    ]  # fmt: skip
    assert (arguments["b_j"], arguments["b_m"]) == (numbers, others * numbers)
    blocks = [-(-n // arguments[f"BLOCK_{axis}"]) for n, axis in zip(
        (shape[0], others, numbers), "IJF", strict=True
    )]  # fmt: skip
    assert launch.blocks == (blocks[0] * blocks[1] * blocks[2],)
    assert launch.blocks[0] < 2**31


@pytest.mark.parametrize(("sizes", "radius"), CASES[1:3])
def test_no_access_outside_the_tensors(sizes, radius, device):
    """The launch again between walls: NaN around what it reads, known values around the rest."""
    p, q = fields(sizes, torch.float32, device)

    def walled(tensor, value):
        memory = tensor.new_full((tensor.numel() + 4096,), value)
        inside = memory[2048:-2048].view(tensor.shape)
        return inside.copy_(tensor), memory

    with recorded() as launches:
        _triton.displaced_joint(p, q, radius)
    (launch,) = launches
    out, memory = walled(torch.zeros_like(launch.arguments["p_out"]), 7.0)
    inside = {"p_p": walled(p, torch.nan)[0], "p_q": walled(q, torch.nan)[0], "p_out": out}
    launch.kernel[launch.blocks](**(launch.arguments | inside), **launch.options)
    assert (memory[:2048] == 7).all()
    assert (memory[-2048:] == 7).all()
    assert torch.equal(out.sum(0), _triton.displaced_joint(p, q, radius))


@pytest.mark.parametrize(
    ("sizes", "radius"),
    [
        ((1, 1, 1, 1, 1), 0),
        ((60, 24, 24, 200, 200), 10),
        ((2, 100, 3, 64, 64), 1),
        ((3, 200, 2, 40_000, 50_000), 0),  # more values than int32 can count
    ],
)
def test_launch(sizes, radius):
    """Every pixel in one share, every class in one tile, no more blocks than a grid has."""
    batch, classes, others, height, width = sizes
    p = torch.empty((batch, classes, height, width), device="meta")
    q = torch.empty((batch, others, height, width), device="meta")
    with recorded() as launches:
        joint = _triton.displaced_joint(p, q, radius)
    side = 2 * radius + 1
    assert joint.shape == (side, side, classes, others)
    (launch,) = launches
    arguments = launch.arguments
    assert set(arguments) == set(launch.kernel.arg_names)
    shares = len(arguments["p_out"])
    pieces = batch * -(-height * width // arguments["BLOCK_N"])
    assert shares * arguments["steps"] >= pieces > (shares - 1) * arguments["steps"]
    assert launch.blocks[0] == shares * side * side < 2**31
    assert launch.blocks[1] * arguments["BLOCK_K"] >= classes
    assert launch.blocks[2] * arguments["BLOCK_L"] >= others
    assert all(arguments[f"BLOCK_{axis}"] >= 16 for axis in "KLN")


def test_precision_is_that_of_matrix_products():
    p = torch.empty((1, 2, 8, 8), device="meta")
    chosen = torch.get_float32_matmul_precision()
    found = []
    try:
        for name in ("highest", "high"):
            torch.set_float32_matmul_precision(name)
            with recorded() as launches:
                _triton.displaced_joint(p, p, 1)
                _triton.displaced_joint(p.double(), p.double(), 1)
            found.append([launch.arguments["PRECISION"] for launch in launches])
    finally:
        torch.set_float32_matmul_precision(chosen)
    assert found == [["ieee", "ieee"], ["tf32", "ieee"]]
