"""Threads that take one item at a time, so that what is in memory does not grow with the list."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

import torch
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

__all__ = ["Stopped", "cpu_count", "work"]


class Stopped(KeyboardInterrupt):
    """Ctrl-C came during `work`; `abandoned` items are still in work on threads that go on."""

    def __init__(self, abandoned: int) -> None:
        super().__init__()
        self.abandoned = abandoned


def cpu_count() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    record: Callable[[Item, Result], object],
    jobs: int,
    unit: str,
    progress: bool,
    patience: float = 5.0,
) -> None:
    """Call record(item, function(item)) for each item on `jobs` threads, one `record` at a time.

    `function` must catch its own errors; the first of `record` is raised here. PyTorch gets an
    equal share of the CPUs on each thread. With `progress` a bar counting `unit` is drawn, if
    stderr is a terminal.

    After Ctrl-C nothing more is started, and what is under way has `patience` seconds to be
    recorded; later it no longer is. The threads are daemons: an exit does not wait for them.

    Raises:
        Stopped: Ctrl-C.
    """
    jobs = min(jobs, len(items))
    queue, lock = iter(items), threading.Lock()
    stop, closed = threading.Event(), threading.Event()
    done: SimpleQueue[BaseException | None] = SimpleQueue()

    def loop() -> None:
        torch.set_num_threads(max(1, cpu_count() // jobs))
        while not stop.is_set():
            with lock:
                item = next(queue, stop)
            if item is stop:
                return
            result = function(item)  # type: ignore[arg-type]
            with lock:
                if closed.is_set():
                    return
                try:
                    # Here and not on the main thread, where Ctrl-C could come between the two.
                    record(item, result)  # type: ignore[arg-type]
                    done.put(None)
                except BaseException as error:
                    done.put(error)

    intraop = torch.get_num_threads()
    threads = [threading.Thread(target=loop, daemon=True) for _ in range(jobs)]
    quiet = not (progress and items and sys.stderr.isatty())
    try:
        for thread in threads:
            thread.start()
        for _ in tqdm(items, unit=f" {unit}", disable=quiet, dynamic_ncols=True, leave=False):
            if (error := done.get()) is not None:
                raise error
    except KeyboardInterrupt:
        stop.set()
        _wait(threads, patience)
        with lock:
            closed.set()
        raise Stopped(sum(thread.is_alive() for thread in threads)) from None
    finally:
        stop.set()
        torch.set_num_threads(intraop)


def _wait(threads: Sequence[threading.Thread], patience: float) -> None:
    """Until the threads end, the time is up, or Ctrl-C comes again."""
    deadline = time.monotonic() + patience
    try:
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
    except KeyboardInterrupt:
        pass
