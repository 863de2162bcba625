"""CUDA timing as far as a machine without a GPU can run it: a card stands in for `torch.cuda` that
runs on the CPU at once, whose clock counts what it is given."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from benchmarks import machine, runner, timers
from benchmarks.registry import GateError, Problem, Variant, Work, require_close


class Card:
    """What timing uses of `torch.cuda`; each kernel takes as long as it says."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.taken = self.most = 0
        self.capturing = False
        self.Event = lambda enable_timing: Event(self)
        self.CUDAGraph = lambda: SimpleNamespace(replay=lambda: self.run(1.0))
        self.Stream = self.current_stream = lambda: SimpleNamespace(wait_stream=lambda other: None)
        self.stream = lambda stream: nullcontext()
        self.synchronize = self.empty_cache = lambda: None
        self.memory_allocated = lambda: self.taken
        self.max_memory_allocated = lambda: self.most

    def run(self, ms: float, room: int = 0) -> None:
        self.ms += ms
        self.most = max(self.most, self.taken + room)

    def reset_peak_memory_stats(self) -> None:
        self.most = self.taken

    @contextmanager
    def graph(self, graph):
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False


class Event:
    def __init__(self, card: Card) -> None:
        self.card, self.at = card, 0.0

    def record(self) -> None:
        self.at = self.card.ms

    def synchronize(self) -> None: ...

    def elapsed_time(self, later: "Event") -> float:
        return later.at - self.at


@pytest.fixture
def card(monkeypatch):
    card = Card()
    monkeypatch.setattr(timers.torch, "cuda", card)
    monkeypatch.setattr(machine, "bounds", lambda device, precision="fp32": (1e9, 1e12))
    monkeypatch.setattr(timers, "_flush", lambda: lambda: card.run(100.0))  # not in any time
    return card


def problem(*variants: Variant) -> Problem:
    def gate(results):
        require_close(results, (torch.ones(2),), 1e-6)

    return Problem("2", "call", list(variants), gate)


def ones(card: Card, ms: float, room: int = 0):
    def run():
        card.run(ms, room)
        return torch.ones(2)

    return run


def waits(card: Card):
    def run():
        if card.capturing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        card.run(1.5)
        return torch.ones(2)

    return run


def work(_) -> Work:
    return Work(1, bytes=1e6)


def test_each_way_eager_and_from_a_graph(card, capsys):
    ours = Variant("ours", ones(card, 2.0, 3 << 20), work)
    rows = runner.measure(
        "case",
        problem(
            ours,
            Variant("peer", ones(card, 8.0), work),
            Variant("waits", waits(card), work),
            Variant("on the CPU", ones(card, 4.0), work, graph=False),
        ),
        "cuda",
        runner.Pace(least=2, most=2),
    )
    assert [(row.variant, row.mode, row.ms, row.ratio) for row in rows] == [
        ("ours", "eager", 2.0, 1.0),
        ("ours", "graph", 1.0, 1.0),
        ("peer", "eager", 8.0, 4.0),
        ("peer", "graph", 1.0, 1.0),
        ("waits", "eager", 1.5, 0.75),
        ("on the CPU", "eager", 4.0, 2.0),
    ]
    by_name = {(row.variant, row.mode): row for row in rows}
    assert by_name["ours", "eager"].memory_mib == 3
    assert by_name["ours", "graph"].memory_mib is None
    assert by_name["ours", "eager"].gbytes == pytest.approx(0.5)
    assert "waits: no CUDA graph (operation not permitted when stream is capturing)" in (
        capsys.readouterr().out
    )


def test_a_graph_whose_result_is_wrong_is_not_timed(card):
    def run():
        return torch.full((2,), 2.0) if card.capturing else torch.ones(2)

    with pytest.raises(GateError, match="replayed from a CUDA graph: ours: relative error"):
        runner.measure("case", problem(Variant("ours", run, work)), "cuda", runner.Pace())


def test_bounds_are_those_of_the_precision(card, monkeypatch):
    asked = []

    def bounds(device, precision="fp32"):
        asked.append(precision)
        return 1e9, {"fp32": 1e12, "bf16": 1e13}[precision]

    monkeypatch.setattr(machine, "bounds", bounds)
    half = Variant("ours", ones(card, 2.0), lambda _: Work(1, flops=1e10, precision="bf16"))
    rows = runner.measure("case", problem(half), "cuda", runner.Pace(least=1, most=1))
    assert rows[0].share == pytest.approx(0.5)  # 1 ms of 2
    assert set(asked) == {"bf16"}
