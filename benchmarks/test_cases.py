"""The registered cases under pytest-benchmark: `pytest benchmarks`, small problems only."""

from collections.abc import Iterator
from functools import cache

import pytest

from . import cases  # noqa: F401  (its import registers them)
from .registry import CASES, Problem, Setup, Variant

SETUP = Setup(quick=True)


@cache
def problems(name: str) -> tuple[Problem, ...]:
    return tuple(CASES[name].problems(CASES[name].resolved(SETUP)))


@cache
def gate(name: str, index: int) -> None:
    problem = problems(name)[index]
    problem.gate({variant.name: variant.run() for variant in problem.variants})


def every_variant() -> Iterator:
    for name, case in CASES.items():
        if SETUP.device in case.devices:
            for index, problem in enumerate(problems(name)):
                for variant in problem.variants:
                    label = f"{name}-{index}-{variant.name}"
                    yield pytest.param(name, index, variant, id=label)


@pytest.mark.parametrize(("name", "index", "variant"), list(every_variant()))
def test_case(benchmark, name: str, index: int, variant: Variant) -> None:
    gate(name, index)
    benchmark.group = f"{name}: {problems(name)[index].shape}"
    benchmark.pedantic(variant.run, rounds=3, warmup_rounds=1)
