"""The flags of a run: of the loop, here, and of the method, beside them; from YAML and the command
line."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, Literal

from .extra import extra

__all__ = [
    "ConfigError",
    "TrainConfig",
    "build",
    "differences",
    "parse",
    "read_yaml",
    "to_flags",
    "to_yaml",
]


class ConfigError(Exception):
    """A configuration cannot be used; the message says why."""


def _free(default: Any) -> Any:
    """A field that does not decide the weights, so that it may change when a run goes on."""
    return field(default=default, metadata={"free": True})


@dataclass(frozen=True)
class TrainConfig:
    """What the loop is told; what a paper is told is in its method's own configuration."""

    #: Data set, NAME or NAME:PATH, such as fruits or folder:photos.
    data: str
    #: Folder of the run. A run that was stopped goes on from there.
    out: str = _free("")
    #: Of weights, batches and all that is random.
    seed: int = 0
    #: How many classes to look for, where the data set has no truth that says so.
    classes: int | None = None
    #: Part of the data set to train on; all: train and test, as published results do.
    split: str = "train"
    #: Part of the data set to score on.
    eval_split: str = _free("test")
    #: Height and width of the crops, or one number, in place of the data set's usual ones.
    size: int | tuple[int, int] | None = None
    #: Factor on the pictures' sides before they are cropped, in place of the usual one.
    scale: float | None = None
    #: Instead: the shorter side of the pictures before they are cropped.
    short: int | None = None
    #: Mirror every other picture in training, if that is usual for the data set.
    flip: bool = True
    #: Leave pixels out of the loss that the truth marks as of no class.
    use_void: bool = True
    #: Folder for superpixels and IEM's masks, to be found once only.
    cache: str | None = _free(None)
    #: Of the networks' arithmetic; weights are always fp32.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    #: Longest gradient; what is longer is shortened to it.
    clip: float | None = None
    #: Statistics over all ranks, over each rank's part of the batch, or as they are.
    batch_norm: Literal["sync", "local", "frozen"] = "sync"
    #: Compile the networks by torch.compile.
    compile: bool = False
    #: Keep the channels of a pixel together in memory, as convolutions in half precision on a GPU
    #: want them.
    channels_last: bool = False
    #: Where to compute; auto: on a GPU if there is one.
    device: Literal["auto", "cpu", "cuda"] = _free("auto")
    #: Threads that make batches ahead; 0: the loop makes them.
    workers: int = _free(0)
    #: Epochs between scores on the test split; 0: none.
    eval_every: int = _free(1)
    #: After the last epoch, also match clusters with classes, many to one, by the labels of so many
    #: training pictures.
    match: tuple[int, ...] = _free(())
    #: After the last epoch, also train these on the frozen features of labelled training pictures.
    probe: tuple[Literal["linear", "mlp"], ...] = _free(())
    #: How many pictures the probes see.
    labelled: int = _free(100)
    #: Steps between checkpoints inside an epoch; 0: only at its end.
    save_every: int = _free(0)
    #: Steps to profile after the first three, into RUN/profile.txt and RUN/profile.json; 0: none.
    profile: int = _free(0)
    #: Write RUN/tensorboard.
    tensorboard: bool = _free(True)
    #: How many test pictures to draw after each scoring.
    pictures: int = _free(8)
    #: Begin anew, even if the folder holds a run.
    fresh: bool = _free(False)

    def __post_init__(self) -> None:
        for name in ("seed", "workers", "eval_every", "save_every", "profile", "pictures"):
            if (value := getattr(self, name)) < 0:
                raise ConfigError(f"`--{name.replace('_', '-')}` must be at least 0, got {value}")
        for name, least in (("match", min(self.match, default=1)), ("labelled", self.labelled)):
            if least < 1:
                raise ConfigError(f"`--{name}` must be at least 1, got {least}")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"`--clip` must be greater than 0, got {self.clip}")


def parse(method: str, config: type, argv: Sequence[str]) -> tuple[TrainConfig, Any]:
    """The two configurations from the command line, on top of those of `--config FILE.yaml`.

    Raises:
        ConfigError: the YAML file cannot be read or knows other options.
        MissingExtra: tyro or PyYAML is not installed.
        SystemExit: bad flags (2), or help was asked for (0).
    """
    tyro = extra("tyro")
    clash = {f.name for f in fields(TrainConfig)} & {f.name for f in fields(config)}
    if clash:
        raise TypeError(f"{config.__qualname__} must not have the loop's {sorted(clash)}")
    flat = tyro.conf.OmitArgPrefixes
    flags = make_dataclass(
        "Flags", [("train", flat[TrainConfig]), ("method", flat[config])], frozen=True
    )
    argv, file = _without_config(argv)
    given = _from_yaml(file, method, (TrainConfig, config)) if file else []
    parsed = tyro.cli(
        flags,
        args=[*given, *argv],
        prog=f"fastseg train {method}",
        description=(config.__doc__ or "") + "\n\nOptions are also read from --config FILE.yaml.",
    )
    if not parsed.train.out:
        raise ConfigError("`--out` must be given: the folder of the run")
    return parsed.train, parsed.method


def _without_config(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The command line without `--config FILE`, and FILE."""
    rest, file = [], None
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--config":
            rest.append(word)
        elif (file := value if equals else next(words, None)) is None:
            raise ConfigError("`--config` needs the name of a YAML file")
    return rest, file


def _from_yaml(path: str, method: str, configs: Sequence[type]) -> list[str]:
    """The options of a file as flags, so that one parser reads and checks both."""
    options = read_yaml(path)
    if options.pop("method", method) != method:
        raise ConfigError(f"{path} is of another method than {method}")
    return to_flags(options, configs, path)


def read_yaml(path: str) -> dict[str, Any]:
    """The options in a file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    yaml = extra("yaml")
    try:
        options = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{path} must hold options, NAME: VALUE")
    return options


def to_flags(options: Mapping[str, Any], configs: Sequence[type], where: str) -> list[str]:
    """Options, as YAML has them, as flags of these configurations.

    Raises:
        ConfigError: there is no such option; `where` says where it stands.
    """
    known = {f.name: f for config in configs for f in fields(config)}
    if unknown := sorted(map(str, options.keys() - known)):
        raise ConfigError(f"{where}: no option {', '.join(unknown)}; there are {', '.join(known)}")
    flags: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if known[name].type is bool and isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            flags += [f"--{flag}", *map(str, values)]
    return flags


def to_yaml(method: str, *configs: Any) -> str:
    """What `--config` reads: all options but the folder of the run."""
    options = {"method": method}
    for config in configs:
        options |= asdict(config)
    del options["out"], options["fresh"]
    return extra("yaml").safe_dump(options, sort_keys=False, allow_unicode=True)


def build(config: type, options: Mapping[str, Any]) -> Any:
    """The configuration that `asdict` and JSON made `options` from.

    Raises:
        ConfigError: another version of fastseg made them.
    """
    try:
        return config(**{name: _tuples(value) for name, value in options.items()})
    except TypeError as error:
        raise ConfigError(f"the options of another version of fastseg: {error}") from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def differences(old: Any, new: Any) -> list[str]:
    """The options that decide the weights and are not the same: "`--lr` 0.1 → 0.2"."""
    return [
        f"`--{f.name.replace('_', '-')}` {getattr(old, f.name)} → {getattr(new, f.name)}"
        for f in fields(new)
        if not f.metadata.get("free") and getattr(old, f.name) != getattr(new, f.name)
    ]
