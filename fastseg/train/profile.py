"""Where the time of a run's first steps goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from ..predict.files import write
from .run import Run

__all__ = ["TABLE", "TRACE", "profiled"]

TABLE, TRACE = "profile.txt", "profile.json"
SKIPPED, WARM = 2, 1  # steps that compile kernels and fill caches, and that start the profiler
ROWS = 40


@contextmanager
def profiled(run: Run) -> Iterator[Callable[[], None]]:
    """Call what this gives after every step: of those that `--profile` counts, PyTorch's operators
    and the GPU's kernels go to RUN/profile.txt, the longest first, and as a trace to
    RUN/profile.json, for chrome://tracing."""
    steps = run.options.profile
    if steps == 0 or run.place.rank:
        yield lambda: None
        return

    def save(found: profile) -> None:
        on_gpu = run.place.device.type == "cuda"
        order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        table = found.key_averages(group_by_input_shape=True).table(order, ROWS)
        write(run.out / TABLE, f"{steps} steps of {run.facts['method']}\n{table}\n".encode())
        found.export_chrome_trace(str(run.out / TRACE))

    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    plan = schedule(skip_first=SKIPPED, wait=0, warmup=WARM, active=steps, repeat=1)
    with profile(
        activities=activities, schedule=plan, on_trace_ready=save, record_shapes=True
    ) as clock:
        yield clock.step
