"""What a run leaves behind to go on from: one safetensors file, replaced whole or not at all."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from .extra import extra

__all__ = ["CHECKPOINT", "Checkpoint", "CheckpointError", "Position", "load", "save", "versions"]

CHECKPOINT = "checkpoint.safetensors"
FORMAT = 1


class CheckpointError(Exception):
    """A file is no checkpoint, or one of something else; the message says of what."""


@dataclass
class Position:
    """How far a run has come, and what it has summed up since the epoch began."""

    epoch: int = 0  #: epochs done
    batch: int = 0  #: batches of the next epoch done
    step: int = 0  #: batches done in all
    totals: dict[str, float] = field(default_factory=dict)  #: of the scalars of those `batch`
    seconds: float = 0.0  #: they took


@dataclass
class Checkpoint:
    """The tensors and facts of a file."""

    model: dict[str, torch.Tensor]  #: as `Module.state_dict` gives it
    optimizer: dict[str, Any]  #: as `Optimizer.state_dict` gives it
    facts: dict[str, Any]  #: the rest, as JSON holds it

    @property
    def position(self) -> Position:
        return Position(**self.facts["position"])


def versions() -> dict[str, str]:
    """What computed a result: versions, and fastseg's commit if it runs from a checkout."""
    from .. import __version__

    root, commit = Path(__file__).parents[2], ""
    if (root / ".git").exists():  # else git might find a repository that fastseg is installed in
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            commit = done.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            pass
    return {
        "fastseg": __version__,
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def save(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    facts: dict[str, Any],
) -> None:
    """Replace the file at `path`: whoever is killed here leaves the old one or the new one."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    state = optimizer.state_dict()
    plain: dict[int, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(index, {})[name] = value
    facts = {
        **facts,
        "position": asdict(position),
        "optimizer": {"groups": state["param_groups"], "plain": plain},
    }
    content = extra("safetensors.torch").save(
        # Copies, for safetensors refuses tensors that share memory, as tied weights do.
        {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
        {"format": str(FORMAT), "fastseg": json.dumps(facts)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a file renamed before its content is on the disk may be empty
    os.replace(part, path)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Nothing in the file is ever executed.

    Raises:
        CheckpointError: there is none, it is cut short, or it is something else, such as a pickle.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint: {path}")
    safetensors = extra("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
    if metadata.get("format") != str(FORMAT) or "fastseg" not in metadata:
        found = metadata.get("format", "none")
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT}, but of {found!r}")
    facts = json.loads(metadata["fastseg"])
    optimizer = facts.pop("optimizer")
    model: dict[str, torch.Tensor] = {}
    state = {int(index): entries for index, entries in optimizer["plain"].items()}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            model[rest] = value
        else:
            index, _, entry = rest.partition(".")
            state.setdefault(int(index), {})[entry] = value
    return Checkpoint(model, {"state": state, "param_groups": optimizer["groups"]}, facts)
