"""A step of training never waits for the device, but to read its loss: here on tensors without
memory, where no value can be asked for, and on a GPU if there is one."""

import traceback
from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastseg
from fastseg.data.base import Batch
from fastseg.methods import METHODS, inmars, views

OURS = {name: m for name, m in METHODS.items() if m.__module__.startswith("fastseg.")}
TRAINED = [name for name, method in OURS.items() if method.gradient]
CLASSES, SIDE = 3, 64


def method_and_batch(name, **options):
    torch.manual_seed(0)
    method = METHODS[name](METHODS[name].Config(**options), 3, CLASSES)
    images = torch.rand(2, 3, SIDE, SIDE)
    superpixels = tuple(fastseg.slic(images, **way) for way in method.superpixels)
    labels = torch.randint(0, CLASSES, (2, SIDE, SIDE))
    valid = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    return method, Batch(images, valid, superpixels, torch.arange(2), ("a", "b"), labels)


class Uploads(TorchDispatchMode):
    """Copies from the host to the device that would wait for what runs there."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        devices = {
            x.device.type for x in (*args[:2], result) if isinstance(x, torch.Tensor) and x.ndim
        }
        if "copy" in str(function) and {"cpu", "meta"} <= devices:
            at = next(f for f in traceback.extract_stack()[-2::-1] if "/torch/" not in f.filename)
            if at.name != "upload":  # there it is from pinned memory
                self.found.append(f"{at.filename}:{at.lineno}")
        return result


@pytest.mark.parametrize("name", TRAINED)
def test_a_loss_asks_for_no_value_and_copies_from_pinned_memory(name, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # Its generators are of the device.
    noise = lambda seeds, like, stream=0: torch.empty_like(like)  # noqa: E731
    monkeypatch.setattr(inmars if name == "inmars" else views, "gaussian", noise)
    options = {"ac": {"transform": "all"}, "arl": {"transform": "all"}}.get(name, {})
    method, batch = method_and_batch(name, **options)
    method, batch = method.to("meta"), batch.to("meta")
    with Uploads() as uploads:
        method.loss(batch, 0.5)["loss"].backward()
    assert uploads.found == []


def test_uploads_are_noticed():
    with Uploads() as uploads:
        torch.ones(3).to("meta")
    assert len(uploads.found) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_on_a_gpu(name, half):
    method, batch = method_and_batch(name)
    method, batch = method.cuda(), batch.to("cuda")
    for mode in ("default", "error"):  # the first call compiles kernels and uploads tables
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                loss = method.loss(batch, 0.5)["loss"]
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
