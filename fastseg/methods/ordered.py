"""What AC and ARL have in common: a network, and two views of a picture in two orderings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from ..checks import check_choice
from ..data.base import Batch
from ..nn import AutoregressiveNet
from ..orderings import ALL, RASTER, ZIGZAG, sample_pair, subset
from .base import Method
from .views import flip, jitter, quarter_turn

__all__ = ["Ordered", "OrderedConfig"]

SETS = {"raster": RASTER, "zigzag": ZIGZAG, "both": ALL}
Transform = Literal["none", "photometric", "flip", "rotation", "all"]


@dataclass(frozen=True)
class OrderedConfig:
    """The paper's, where it names a value; what it leaves to a supplement is as IIC has it."""

    lr: float = 1e-5
    batch_size: int = 60
    epochs: int = 100
    variant: Literal["F1", "F2", "F3", "F4", "F5"] = "F2"  #: of the network: Table 1a
    widths: tuple[int, ...] = (128, 256, 512, 512, 512)  #: of its residual blocks
    stride: int = 4  #: 1, 2 or 4 pixels from one feature to the next
    attention: bool = False  #: after the first block that sees in an ordering
    heads: int = 1  #: of the attention
    dropout: float = 0.0  #: in residual blocks
    orderings: Literal["raster", "zigzag", "both"] = "raster"  #: O; zigzags need attention
    subset: int | None = None  #: |O|, how many of them, which the seed chooses; None: all
    sampling: Literal["random", "no_repetition", "hard"] = "random"  #: of a step's two from O
    transform: Transform = "none"  #: of the second view: Table 1e
    brightness: float = 0.4  #: this and the next three: of "photometric" and "all"
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.125
    backend: str = "auto"  #: of the operators


class Ordered(Method):
    """A network F = h ∘ g_ar ∘ d that is to say the same of a picture in two orderings."""

    variants: tuple[str, ...] = ("pixel",)
    orderings: torch.Tensor  #: O

    def __init__(self, config: Any, channels: int, classes: int, clusters: int) -> None:
        super().__init__(config, channels, classes)
        check_choice("orderings", config.orderings, SETS)
        check_choice("transform", config.transform, get_args(Transform))
        if config.orderings != "raster" and not config.attention:
            raise ValueError(f'`attention` must be True for `orderings` "{config.orderings}": '
                             "convolutions see in raster scans alone")  # fmt: skip
        chosen = SETS[config.orderings]
        if config.subset is not None:
            chosen = subset(config.subset, chosen, opposites=config.sampling == "hard")
        sample_pair(chosen, config.sampling)  # or it says what is wrong
        self.register_buffer("orderings", torch.tensor(chosen))
        self._chosen = list(chosen)  # of the buffer, which a step would wait for
        self.register_load_state_dict_post_hook(Ordered._read)
        self.network = AutoregressiveNet(
            clusters,
            channels,
            config.variant,
            widths=config.widths,
            stride=config.stride,
            attention=config.attention,
            heads=config.heads,
            dropout=config.dropout,
        )
        for module in self.network.modules():
            if hasattr(module, "backend"):
                module.backend = config.backend

    def _read(self, _: Any) -> None:
        self._chosen = self.orderings.tolist()

    def views(self, batch: Batch, decode: bool = True) -> tuple[torch.Tensor, ...]:
        """What the network says of a picture in two orderings, pixel on pixel, the second of them
        of a transformed picture where there is a transform."""
        first, second = sample_pair(self._chosen, self.config.sampling)
        if self.config.transform == "none":
            return self.network(batch.images, (first, second), decode)
        there, back = self._geometry(batch.seeds)
        other = there(self._other_colours(batch))
        return (
            self.network(batch.images, first, decode),
            back(self.network(other, second, decode)),
        )

    def _other_colours(self, batch: Batch) -> torch.Tensor:
        config = self.config
        if config.transform not in ("photometric", "all"):
            return batch.images
        colours = config.brightness, config.contrast, config.saturation, config.hue
        return jitter(batch.images, batch.seeds, *colours)

    def _geometry(self, seeds: torch.Tensor) -> tuple[Callable, Callable]:
        """The transform of pictures and its inverse."""
        mirrors = 0.5 if self.config.transform in ("flip", "all") else 0.0
        turns = self.config.transform in ("rotation", "all")

        def there(x: torch.Tensor) -> torch.Tensor:
            x = flip(x, seeds, mirrors)
            return quarter_turn(x, seeds) if turns else x

        def back(x: torch.Tensor) -> torch.Tensor:
            return flip(quarter_turn(x, seeds, back=True) if turns else x, seeds, mirrors)

        return there, back

    def features(self, batch: Batch) -> torch.Tensor:
        return self.network(batch.images, decode=False)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"pixel": self.network(batch.images).argmax(1)}
