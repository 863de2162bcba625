"""`python -m benchmarks [cpu|gpu]`: gate, time and report the registered cases.

Exit status: 0 measured, 1 a result or a GPU check was wrong (nothing of it is reported), 2 the
machine lacks what is asked for.
"""

import argparse
import sys
from pathlib import Path

import torch

from fastseg.backends import BackendUnavailable

from . import cases, machine, report  # noqa: F401  (the import of `cases` registers them)
from .registry import CASES, GateError, Setup
from .runner import run

RESULTS = Path(__file__).parent / "results"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("device", nargs="?", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--only", action="append", metavar="NAME", help="this case; repeatable")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--quick", action="store_true", help="small problems, under a minute")
    parser.add_argument(
        "--backend",
        default="auto",
        help="of fastseg; what an operator takes by itself if not given",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the CSVs and plots; if "
                        "not given benchmarks/results/MACHINE, or with --quick none")  # fmt: skip
    parser.add_argument("--no-checks", action="store_true", help="gpu: no tests, no sanitizer")
    options = parser.parse_args(arguments)
    for name in options.only or ():
        if name not in CASES:
            parser.error(f"--only must name one of {', '.join(CASES)}, got {name}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    chosen = [
        case
        for case in CASES.values()
        if options.device in case.devices and case.name in (options.only or CASES)
    ]
    if options.list:
        print("\n".join(f"{case.name:<20}{case.doc}" for case in chosen))
        return 0
    device = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU: PyTorch sees no CUDA device, so nothing was measured", file=sys.stderr)
        return 2
    folder = options.out or (None if options.quick else RESULTS / machine.folder_name(device))
    if device == "cuda" and not options.no_checks:
        from .gpu import check

        if not check(folder):
            return 1
    return measure(chosen, Setup(device, options.backend, options.quick), folder)


def measure(chosen: list, setup: Setup, folder: Path | None) -> int:
    """Every case, each reported as soon as it is done."""
    about = machine.describe(setup.device)
    copy, product = machine.bounds(setup.device)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"bounds: copy {copy / 1e9:.1f} GB/s, fp32 product {product / 1e9:.0f} GFLOP/s")
    failed = 0
    for case in chosen:
        try:
            rows = run(case, case.resolved(setup))
        except GateError as error:
            print(f"\n{case.name}: WRONG, not measured: {error}", file=sys.stderr)
            failed = 1
            continue
        except BackendUnavailable as error:
            print(f"\n{case.name}: {error}", file=sys.stderr)
            failed = failed or 2
            continue
        print(f"\n{report.table(rows)}", flush=True)
        if folder is not None:
            for path in report.save(rows, about, folder):
                print(f"  → {path}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
