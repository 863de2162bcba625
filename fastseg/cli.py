"""The command line: `fastseg COMMAND`, a file each in `commands`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from . import __version__
from .commands import data, doctor, evaluate, orderings, reproduce, segment, superpixels, train
from .commands.common import BAD_USAGE, INTERRUPTED, UsageError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0: all well; 1: some files failed; 2: bad usage; 130: stopped by Ctrl-C or SIGTERM.
    """
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(evaluate.complete(words))
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return arguments.run(arguments)
    except UsageError as error:
        print(f"fastseg: {error}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt as stop:
        print("fastseg: interrupted", file=sys.stderr)
        if getattr(stop, "abandoned", 0):
            # Threads in the midst of a kernel cannot be ended otherwise.
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fastseg", description="Unsupervised image segmentation.")
    parser.add_argument("--version", action="version", version=f"fastseg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (segment, superpixels, train, reproduce, evaluate, data, orderings, doctor):
        command.add_to(commands)
    return parser
