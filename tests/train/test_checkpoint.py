"""Checkpoints: what goes in comes out, and nothing else gets in."""

import os
import pickle

import pytest
import torch
from torch import nn

from fastseg.train import CheckpointError, load
from fastseg.train.checkpoint import Position, save

POSITION = Position(3, 2, 17, {"loss": 0.1 + 0.2}, 1.5)


def trained(optimizer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network.append(network[2])  # one module twice: its tensors share memory
    chosen = optimizer([network[0].weight, network[2].weight])
    for _ in range(2):
        network[:3](torch.randn(5, 3)).square().sum().backward()
        chosen.step()
    return network, chosen


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.9)),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.1),
        torch.optim.Adadelta,
        torch.optim.NAdam,
    ],
)
def test_what_is_saved_is_loaded(tmp_path, optimizer):
    network, chosen = trained(optimizer)
    path = tmp_path / "run" / "checkpoint.safetensors"
    save(path, network, chosen, POSITION, {"seed": 5})
    found = load(path)
    assert found.position == POSITION
    assert found.facts["seed"] == 5
    torch.testing.assert_close(found.model, dict(network.state_dict()), rtol=0, atol=0)
    other_network, other = trained(optimizer)
    other_network.load_state_dict(found.model)
    other.load_state_dict(found.optimizer)
    assert_same_state(other.state_dict()["state"], chosen.state_dict()["state"])
    assert len(other.param_groups) == 1
    for each in ((network, chosen), (other_network, other)):
        torch.manual_seed(1)
        each[0][:3](torch.randn(5, 3)).square().sum().backward()
        each[1].step()
    assert torch.equal(network[0].weight, other_network[0].weight)
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.safetensors"]


def assert_same_state(actual, expected):
    assert actual.keys() == expected.keys()
    for index, entries in expected.items():
        assert actual[index].keys() == entries.keys()
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(actual[index][name], value)
            else:
                assert actual[index][name] == value


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("dump", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch, dump):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    dump({"model": Bomb()}, path)
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load(path)
    assert not (tmp_path / "exploded").exists()


def test_what_is_cut_short_or_of_others_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(CheckpointError, match=f"no checkpoint: {path}"):
        load(path)
    network, optimizer = trained(torch.optim.Adam)
    save(path, network, optimizer, POSITION, {})
    content = path.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
            load(path)
    import safetensors.torch

    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint of format 1, but of 'none'"):
        load(path)


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    network, optimizer = trained(torch.optim.Adam)
    save(path, network, optimizer, POSITION, {})
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        save(path, network, optimizer, Position(), {})
    assert path.read_bytes() == before
