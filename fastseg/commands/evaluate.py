"""`fastseg eval`: score results against the truth."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..predict import LabelFolder, MaskFolder, evaluate, evaluate_superpixels, mean_scores
from ..predict.files import write
from ..predict.journal import csv_bytes
from ..predict.truth import VALUES
from .common import OK, SOME_FAILED, UsageError, count, table, whole

__all__ = ["add_to", "add_truth_values", "complete", "print_scores"]

KINDS = ("run", "masks", "superpixels")


def complete(argv: Sequence[str]) -> list[str]:
    """`eval RUN` is `eval run RUN`."""
    words = list(argv)
    if len(words) > 1 and words[0] == "eval" and words[1] not in (*KINDS, "-h", "--help"):
        words.insert(1, "run")
    return words


def add_to(commands: argparse._SubParsersAction) -> None:
    """The command's arguments."""
    add = commands.add_parser("eval", help="score results")
    kinds = add.add_subparsers(required=True, metavar="WHAT")
    add = kinds.add_parser("run", help="score what `fastseg train` made; `eval RUN` for short")
    add.add_argument("folder", metavar="RUN", help="folder of the run")
    add.add_argument("--data", metavar="SPEC", help="data set (default: that of the training)")
    add.add_argument("--split", metavar="S", help="default: test, or as in training")
    add.add_argument("--size", type=count, metavar="N", help="side of the crops (default: as in "
        "training)")  # fmt: skip
    add.add_argument("--batch-size", type=count, metavar="N", help="default: as in training")
    add.add_argument("--match", type=count, nargs="+", default=(), metavar="N", help="also match "
        "clusters with classes, many to one, by the labels of N training pictures")  # fmt: skip
    add.add_argument("--probe", nargs="+", choices=("linear", "mlp"), default=(), help="also train "
        "these on the frozen features of labelled training pictures")  # fmt: skip
    add.add_argument("--labelled", type=count, default=100, metavar="N",
        help="how many pictures the probes see (default: 100)")  # fmt: skip
    add.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add.add_argument("--workers", type=whole, default=0, metavar="N",
        help="threads that make batches ahead (default: 0)")  # fmt: skip
    add.add_argument("-o", "--out", metavar="FILE", help="write the scores, as CSV or, if its name "
        "ends so, JSON")  # fmt: skip
    add.set_defaults(run=_run)

    add = kinds.add_parser("masks", help="score foreground masks against true ones")
    add.add_argument("--pred", required=True, metavar="DIR", help="predicted masks, or OUT itself")
    add.add_argument("--truth", required=True, metavar="DIR", help="true masks of the same names")
    add.add_argument("-o", "--out", metavar="CSV", help="write the scores of each image")
    add.add_argument("--jobs", type=count, metavar="N", help="default: one for each CPU")
    add_truth_values(add)
    add.set_defaults(run=_masks)

    add = kinds.add_parser("superpixels", help="score superpixels against true segments")
    add.add_argument("--pred", required=True, metavar="DIR", help="label maps, or OUT itself")
    add.add_argument("--truth", required=True, metavar="DIR",
        help="true label maps, PNG or NPY, of the same names, or NAME_0, NAME_1, … of several "
        "annotators")  # fmt: skip
    add.add_argument("--void", type=whole, metavar="V", help="leave out the truth's pixels of this "
        "value")  # fmt: skip
    add.add_argument("--tolerance", type=whole, metavar="N", help="of boundary recall in pixels "
        "(default: 0.0025 of the diagonal)")  # fmt: skip
    add.add_argument("-o", "--out", metavar="CSV", help="write the scores of each image")
    add.add_argument("--jobs", type=count, metavar="N", help="default: one for each CPU")
    add.set_defaults(run=_superpixels)


def add_truth_values(add: argparse.ArgumentParser) -> None:
    add.add_argument("--truth-values", choices=("auto", "index", "grey"), default="auto",
        help="index: 0 background, 1 foreground, 255 void. grey: foreground from 128 on. auto: "
        "index if a file in the folder holds 1 and none but 0, 1, 255, else grey")  # fmt: skip


def _run(arguments: argparse.Namespace) -> int:
    from ..train import CheckpointError, ConfigError, restore, score_run

    names = ("data", "split", "size", "batch_size", "workers", "match", "probe", "labelled")
    options = {name: getattr(arguments, name) for name in names}
    try:
        trained = restore(arguments.folder, arguments.device)
        rows, classes = score_run(trained, **options, progress=sys.stderr.isatty())
        if arguments.out:
            as_json = arguments.out.lower().endswith(".json")
            content = json.dumps(rows, indent=1).encode() if as_json else csv_bytes(rows)
            write(Path(arguments.out), content)
    except (CheckpointError, ConfigError, ImportError, ValueError, OSError) as error:
        raise UsageError(error) from error
    columns = {"accuracy": "accuracy", "miou": "mIoU", "dice": "DICE", "nmi": "NMI", "ari": "ARI"}
    columns |= {f"iou {name}": name for name in classes}
    lines = [("percent", "weights", "epoch", *columns.values())]
    for row in rows:
        numbers = ("" if row[name] is None else f"{100 * row[name]:.2f}" for name in columns)
        lines.append((row["variant"], row["weights"], str(row["epoch"]), *numbers))
    print(table(lines))
    print("The columns after ARI are IoUs. last: no label had a say in the weights, nor in when to")
    print("stop. best (oracle): the epoch of the highest accuracy, which takes the truth to know.")
    if not any(row["weights"] == "best (oracle)" for row in rows):
        print("It is not known here: the run was not scored on this data while it was trained.")
    return OK


def _masks(arguments: argparse.Namespace) -> int:
    try:
        pred = MaskFolder(arguments.pred)
        truth = MaskFolder(arguments.truth, arguments.truth_values)
        rows = evaluate(pred, truth, arguments.jobs, progress=True)
        if arguments.out:
            write(Path(arguments.out), csv_bytes(rows))
    except (ValueError, OSError) as error:
        raise UsageError(error) from error
    failed = [row for row in rows if row["note"]]
    for row in failed:
        print(f"{row['file']}: {row['note']}", file=sys.stderr)
    scores = [{k: v for k, v in row.items() if isinstance(v, float)} for row in rows]
    print_scores(scores, truth.values)
    return SOME_FAILED if failed else OK


def print_scores(scores: Sequence[Mapping[str, float]], values: str) -> None:
    means = mean_scores(scores)
    print(f"Truth masks: {VALUES[values]} (--truth-values {values}).")
    if not means:
        print("No mask could be scored.")
        return
    names = ("accuracy", "iou", "miou", "dice")
    print(
        table(
            [
                (f"mean of {sum(map(bool, scores))}, percent", "accuracy", "IoU", "mIoU", "DICE"),
                ("honest", *(f"{100 * means[name]:.2f}" for name in names)),
                ("oracle polarity", *(f"{100 * means[f'oracle_{name}']:.2f}" for name in names)),
            ]
        )
    )


def _superpixels(arguments: argparse.Namespace) -> int:
    try:
        pred, truth = LabelFolder(arguments.pred), LabelFolder(arguments.truth)
        options = {name: getattr(arguments, name) for name in ("void", "tolerance", "jobs")}
        rows = evaluate_superpixels(pred, truth, **options, progress=True)
        if arguments.out:
            write(Path(arguments.out), csv_bytes(rows))
    except (ValueError, OSError) as error:
        raise UsageError(error) from error
    failed = [row for row in rows if row["note"]]
    for row in failed:
        print(f"{row['file']}: {row['note']}", file=sys.stderr)
    scored = [row for row in rows if not row["note"]]
    if not scored:
        print("No label map could be scored.")
        return SOME_FAILED

    def mean(name: str) -> float:
        return sum(row[name] for row in scored) / len(scored)

    heads = (f"mean of {len(scored)}", "boundary recall", "undersegm. error", "ASA", "superpixels")
    percent = (f"{mean(name):.2%}" for name in list(scored[0])[1:4])
    print(table([heads, ("", *percent, f"{mean('count'):.1f}")]))
    return SOME_FAILED if failed else OK
