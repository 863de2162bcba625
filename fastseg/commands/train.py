"""`fastseg train`: a method on a data set, into the folder of a run."""

import argparse
import sys

from .common import INTERRUPTED, OK, SOME_FAILED, UsageError

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments; those after METHOD are the method's own and the loop's."""
    add = commands.add_parser("train", help="train a method on unlabelled pictures")
    add.add_argument("method", metavar="METHOD", help="`METHOD --help` lists its options")
    add.add_argument("options", nargs=argparse.REMAINDER, metavar="…", help="its options")
    add.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from ..methods import METHODS
    from ..train import (
        CheckpointError,
        ConfigError,
        Stopped,
        TrainingError,
        parse,
        train,
    )

    method = METHODS.get(arguments.method)
    if method is None:
        raise UsageError(f"no method {arguments.method!r}: there are {', '.join(sorted(METHODS))}")
    try:
        options, config = parse(arguments.method, method.Config, arguments.options)
        train(arguments.method, config, options)
    except Stopped as stop:
        print(f"fastseg: {stop}", file=sys.stderr)
        return INTERRUPTED
    except TrainingError as error:
        print(f"fastseg: {error}", file=sys.stderr)
        return SOME_FAILED
    except (CheckpointError, ConfigError, ImportError, ValueError, OSError) as error:
        raise UsageError(error) from error
    return OK
