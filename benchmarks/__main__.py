"""`python -m benchmarks [cpu|gpu]`: gate, time and report the registered cases.

On a GPU the tests marked `gpu` and compute-sanitizer come first: `--only tests`, `memcheck` and
`racecheck` are parts, too.

Exit status: 0 measured, 1 a result or a GPU check was wrong or failed (nothing of it is reported),
2 the machine lacks what is asked for, 3 the minutes were up before the end.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from fastseg.backends import BackendUnavailable

from . import cases, machine, report  # noqa: F401  (the import of `cases` registers them)
from .registry import CASES, Case, Setup
from .runner import Failure, Row, run

RESULTS = Path(__file__).parent / "results"
CHECKS = ("tests", "memcheck", "racecheck")


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
    parser.add_argument(
        "--resume", action="store_true", help="leave out what --out holds of this commit"
    )
    parser.add_argument("--no-checks", action="store_true", help="gpu: no tests, no sanitizer")
    parser.add_argument("--minutes", type=float, help="gpu: end after so long; --resume goes on")
    parser.add_argument(
        "--here", action="store_true", help="gpu: the cases in this one process, without checks"
    )
    options = parser.parse_args(arguments)
    known = [*CASES, *(CHECKS if options.device == "gpu" else ())]
    for name in options.only or ():
        if name not in known:
            parser.error(f"--only must name one of {', '.join(known)}, got {name}")
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
    if device == "cuda" and not options.here:
        return in_parts(options, [case.name for case in chosen], folder)
    setup = Setup(device, options.backend, options.quick)
    return measure(chosen, setup, folder, options.resume)


def in_parts(options: argparse.Namespace, names: list[str], folder: Path | None) -> int:
    """The checks and each case, every one a process."""
    from . import gpu, gpu_docs

    checks = () if options.no_checks else set(options.only or CHECKS) & set(CHECKS)
    arguments = ["--backend", options.backend]
    arguments += ["--out", str(folder.resolve())] if folder else []
    arguments += [f"--{flag}" for flag in ("quick", "resume") if getattr(options, flag)]
    status = gpu.run(checks, names, arguments, folder, options.minutes, options.resume)
    if folder is not None and folder.parent == RESULTS:
        gpu_docs.main()
    return status


def measure(chosen: list[Case], setup: Setup, folder: Path | None, resume: bool = False) -> int:
    """Every case, each of its problems reported as soon as it is done."""
    about = machine.describe(setup.device)
    if setup.device == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # a product of float32 is one, ours and theirs
    copy, product = machine.bounds(setup.device)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"bounds: copy {copy / 1e9:.1f} GB/s, fp32 product {product / 1e9:.0f} GFLOP/s")
    statuses = [measure_case(case, setup, about, folder, resume) for case in chosen]
    return next((status for status in (1, 2) if status in statuses), 0)


def measure_case(
    case: Case, setup: Setup, about: dict[str, Any], folder: Path | None, resume: bool
) -> int:
    """Its exit status."""
    try:
        setup = case.resolved(setup)
    except BackendUnavailable as error:
        print(f"\n{case.name}: {error}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    failures: list[Failure] = []
    if folder is not None and resume:
        rows = report.load(folder / f"{case.name}.csv", about["commit"])
    if folder is not None:
        report.note(case.name, [], about, folder)
    for found in run(case, setup, done={row.shape for row in rows}):
        if isinstance(found, Failure):
            failures.append(found)
            print(f"\n{case.name}: {found.shape}: {found.why}", file=sys.stderr, flush=True)
            if folder is not None:
                report.note(case.name, failures, about, folder)
        else:
            rows += found
            print(f"\n{report.table(found)}", flush=True)
            if folder is not None:
                report.save(rows, about, folder)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
