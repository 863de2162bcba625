"""Threads that take one item at a time, so that what is in memory does not grow with the list."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
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
    """Call record(item, function(item)) for each item: `function` on `jobs` threads, `record` here.

    With `progress` a bar counting `unit`s is drawn, if stderr is a terminal.

    `function` must catch its own errors. PyTorch gets an equal share of the CPUs on each thread.
    After Ctrl-C nothing more is started, and what is under way has `patience` seconds to be
    recorded. The threads are daemons, so a process that ends does not wait for the rest.

    Raises:
        Stopped: Ctrl-C.
    """
    jobs = min(jobs, len(items))
    queue, lock, stop = iter(items), threading.Lock(), threading.Event()
    done: SimpleQueue[tuple[Item, Result]] = SimpleQueue()

    def loop() -> None:
        torch.set_num_threads(max(1, cpu_count() // jobs))
        while not stop.is_set():
            with lock:
                item = next(queue, stop)
            if item is stop:
                return
            done.put((item, function(item)))  # type: ignore[arg-type]

    intraop = torch.get_num_threads()
    threads = [threading.Thread(target=loop, daemon=True) for _ in range(jobs)]
    quiet = not (progress and items and sys.stderr.isatty())
    try:
        for thread in threads:
            thread.start()
        for _ in tqdm(items, unit=unit, disable=quiet, dynamic_ncols=True, leave=False):
            record(*done.get())
    except KeyboardInterrupt:
        stop.set()
        _wait(threads, patience)
        while True:
            try:
                record(*done.get_nowait())
            except Empty:
                break
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
