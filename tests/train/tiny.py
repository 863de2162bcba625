"""A method small enough for tests; as a program, `fastseg` with it among the methods."""

import os
import signal
import sys
from dataclasses import dataclass

import torch
from torch import nn

from fastseg.cli import main
from fastseg.methods import METHODS
from fastseg.methods.base import Method
from fastseg.nn import class_entropies


@dataclass(frozen=True)
class TinyConfig:
    """Options of the tiny method."""

    lr: float = 0.01
    """Step size."""
    batch_size: int = 4
    epochs: int = 2
    width: int = 6
    norm: bool = True
    noise: float = 0.1
    """Of what is added to pictures, from a sample's own seed and from PyTorch's generator."""
    die_at: int = -1
    """Step at which the process kills itself."""
    nan_at: int = -1
    """Step at which the loss is not a number."""
    sgd: bool = False
    pair: tuple[int, int] = (1, 2)


class Tiny(Method):
    """Two convolutions that maximise the mutual information of pixels and classes."""

    Config = TinyConfig
    variants = ("tiny", "shifted")

    def __init__(self, config, channels, classes):
        super().__init__(config, channels, classes)
        self.network = nn.Sequential(
            nn.Conv2d(channels, config.width, 3, padding=1),
            nn.BatchNorm2d(config.width) if config.norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(config.width, classes, 1),
        )
        self.steps = 0

    def optimizer(self):
        if self.config.sgd:
            return torch.optim.SGD(self.parameters(), self.config.lr, momentum=0.9)
        return super().optimizer()

    def loss(self, batch, progress, group=None):
        noise = torch.stack(
            [torch.randn(x.shape, generator=torch.Generator().manual_seed(int(seed)))
             for x, seed in zip(batch.images, batch.seeds, strict=True)]
        )  # fmt: skip
        x = batch.images + self.config.noise * (noise + torch.randn(1)).to(batch.images)
        p = self.network(x).softmax(1)
        marginal, conditional = class_entropies(p, weights=batch.valid, group=group)
        self.steps += 1
        if self.steps == self.config.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = conditional - (1 - 0.5 * progress) * marginal
        if self.steps == self.config.nan_at:
            loss = loss * float("nan")
        return {"loss": loss, "marginal": marginal, "conditional": conditional}

    def predict(self, batch):
        labels = self.network(batch.images).argmax(1)
        return {"tiny": labels, "shifted": (labels + 1) % self.classes}


METHODS["tiny"] = Tiny

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
