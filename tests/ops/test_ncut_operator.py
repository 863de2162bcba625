"""soft_ncut as an operator: kinds of input, gradients, compiler."""

import shutil
import warnings

import pytest
import torch

from fastseg import soft_ncut
from tests.ops.ncut_problems import problem, value_and_gradient

pytestmark = pytest.mark.usefixtures("one_thread", "poisoned")


# --- Kinds of input ----------------------------------------------------------------------------


def test_ranges_of_the_image(backend):
    p, image = problem(1, 3, 3, 9, 12)
    expected = soft_ncut(p, image, backend=backend)
    same = lambda image, **range: torch.allclose(  # noqa: E731
        soft_ncut(p, image, backend=backend, **range), expected, rtol=1e-5
    )
    assert same(image.float() / 255)
    assert same(image.double() / 255)
    assert same(image.float(), value_range=(0, 255))
    assert same(image.float() / 127.5 - 1, value_range=(-1, 1))
    assert not same(image, value_range=(0, 300))
    assert same(image.to(memory_format=torch.channels_last))


def test_takes_any_layout(backend):
    p, image = problem(2, 4, 3, 13, 20)
    expected = value_and_gradient(lambda p: soft_ncut(p, image, backend=backend), p)
    wide = torch.stack([p, -p], -1)[..., 0]
    for other in (p.to(memory_format=torch.channels_last), p.mT.contiguous().mT, wide):
        assert not other.is_contiguous()
        actual = value_and_gradient(lambda p: soft_ncut(p, image, backend=backend), other)
        assert all(map(torch.equal, actual, expected))
    wide_image = torch.stack([image, image], -1)[..., 0]
    assert torch.equal(soft_ncut(p, wide_image, backend=backend), expected[0])


def test_same_bits_for_any_batch_and_threads(backend, threads):
    p, image = problem(3, 3, 3, 70, 41)
    loss = lambda p, image: value_and_gradient(  # noqa: E731
        lambda p: soft_ncut(p, image, backend=backend), p
    )
    whole = loss(p, image)
    for i in range(3):
        alone = loss(p[i : i + 1], image[i : i + 1])
        assert all(torch.equal(a, b[i : i + 1]) for a, b in zip(alone, whole, strict=True))
    for count in threads:
        torch.set_num_threads(count)
        assert all(map(torch.equal, loss(p, image), whole))


def test_autocast_changes_nothing(backend):
    p, image = problem(1, 3, 3, 9, 12)
    expected = soft_ncut(p, image, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(soft_ncut(p, image, backend=backend), expected)


# --- Gradients, operator, compiler -------------------------------------------------------------


def test_gradients_of_any_order(backend):
    p, image = problem(2, 2, 1, 3, 4, dtype=torch.float64)
    p.requires_grad_()
    loss = lambda p: soft_ncut(p, image, 3, 40.0, backend=backend)  # noqa: E731
    torch.autograd.gradcheck(loss, p)
    torch.autograd.gradgradcheck(loss, p)

    def third(p):
        (gradient,) = torch.autograd.grad(loss(p).sum(), p, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), p, create_graph=True)
        return second

    torch.autograd.gradcheck(third, p, fast_mode=True)


def test_every_output_has_its_gradient(backend):
    p, image = problem(1, 2, 1, 3, 4, dtype=torch.float64)
    p.requires_grad_()
    options = 0.0, 255.0, 3, 40.0, 4.0, backend
    for output in range(3):
        part = lambda p: torch.ops.fastseg.ncut_sums(p, image, *options)[output]  # noqa: E731, B023
        torch.autograd.gradcheck(part, p)
        torch.autograd.gradgradcheck(part, p, fast_mode=True)


def test_the_image_is_a_constant(backend):
    p, image = problem(1, 2, 3, 5, 6)
    image = (image.float() / 255).requires_grad_()
    assert not soft_ncut(p, image, backend=backend).requires_grad


def test_sound_operator(backend):
    p, image = problem(1, 2, 3, 7, 5)
    for view in (p, p.transpose(2, 3).contiguous().mT, p.to(memory_format=torch.channels_last)):
        for wants_gradient in (False, True):
            inputs = (view.detach().requires_grad_(wants_gradient), image)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's own, of the tools it tests with
                torch.library.opcheck(
                    torch.ops.fastseg.ncut_sums.default,
                    (*inputs, 0.0, 255.0, 5, 10.0, 4.0, backend),
                )
    sums = torch.rand(2, 1).mT, torch.rand(1, 2)
    kept = torch.rand(1, 2, 7, 5), torch.rand(1, 7, 5)
    torch.library.opcheck(torch.ops.fastseg.ncut_back.default, (*sums, *kept, backend))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in PyTorch's compiler
def test_compiles_whole(backend):
    compiler = "inductor" if backend == "native" and shutil.which("g++") else "aot_eager"
    logits, image = torch.randn(2, 3, 11, 13), problem(2, 3, 3, 11, 13)[1]

    def loss(logits):
        return soft_ncut(logits.softmax(1), image, backend=backend).mean()

    logits.requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend=compiler)
    actual, expected = (torch.autograd.grad(f(logits), logits)[0] for f in (compiled, loss))
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-8)
