"""What holds for every method that follows a gradient: in the loop, compiled, exported."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fastseg.methods import METHODS
from fastseg.train import TrainConfig, load, train
from fastseg.train.checkpoint import CHECKPOINT
from tests.methods.samples import OPTIONS, batch, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

LOOP = TrainConfig("fruits?limit=12", size=32, tensorboard=False, pictures=0, device="cpu")


def run(folder, name, **options):
    """Two epochs of three steps; the checkpoint that they leave."""
    config = METHODS[name].Config(**OPTIONS[name], batch_size=4, epochs=2, lr=1e-3)
    return load(train(name, config, replace(LOOP, out=str(folder), **options)) / CHECKPOINT)


def test_none_is_left_out():
    assert {name for name, kind in METHODS.items() if kind.gradient} - {"tiny"} == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_that_was_stopped_goes_on_as_if_not(name, tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", name)
    assert all(value.isfinite().all() for value in whole.model.values())

    class Stop(Exception):
        pass

    kind, steps = METHODS[name], []
    learn = kind.loss

    def loss(self, *arguments):
        steps.append(1)
        if len(steps) == 3:
            raise Stop
        return learn(self, *arguments)

    monkeypatch.setattr(kind, "loss", loss)
    with pytest.raises(Stop):
        run(tmp_path / "parts", name, save_every=1)
    parts = run(tmp_path / "parts", name)
    torch.testing.assert_close(parts.model, whole.model, rtol=0, atol=0)
    torch.testing.assert_close(parts.optimizer, whole.optimizer, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the compiler looks at it
@pytest.mark.parametrize("name", OPTIONS)
def test_it_learns_the_same_compiled(name, monkeypatch):
    """With an eager backend: what is traced, and how often, is the compiler's part."""
    model, other = tiny(name), tiny(name)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    for network in other.children():
        network.compile(backend=backend)
    data = batch(superpixels=model.superpixels[:1], labels=model.supervised or model.pseudo)
    results = []
    for method in (model, other):
        torch.manual_seed(0)
        loss = method.loss(data, 0.5)["loss"]
        loss.backward()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        results.append((loss, *gradients))
    assert graphs
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_half_precision_is_close(name):
    """Of the losses; weights and their gradients stay in float32."""
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny(name).eval()
        data = batch(superpixels=model.superpixels[:1], labels=model.supervised or model.pseudo)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model.loss(data, 0.5)["loss"]
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=0.05, abs=0.05)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_trained_model_can_be_exported(name):
    """For any number of pictures; with no operator that another program would lack."""
    model: Any = tiny(name).eval()
    data = batch(4)
    if model.superpixels:
        with pytest.raises(ValueError, match="sees superpixels too: use `predict`"):
            model(data.images)
        model = model.network.backbone  # which needs none
    free = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(model, (data.images[:2],), dynamic_shapes=free)
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names
    assert not [name for name in names if "fastseg" in name]
    with torch.no_grad():
        expected = model(data.images)
        assert torch.equal(program.module()(data.images), expected)
    assert expected.shape[-2:] == data.images.shape[-2:]
