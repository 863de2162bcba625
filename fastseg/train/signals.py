"""Ctrl-C and SIGTERM as something to ask about between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["stop_requests"]


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT or SIGTERM has come; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only there signals can be caught
        return
    came: list[int] = []
    before: dict[int, object] = {}

    def note(number: int, _: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)  # type: ignore[arg-type]
