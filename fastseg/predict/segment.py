"""Segment pictures by IEM, each by itself: what `fastseg segment` runs."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from .files import Source
from .masks import SHEET, MaskRow, MaskTask, Settings
from .pictures import PictureError
from .run import Report, Run
from .sheet import write_sheet
from .truth import MaskFolder, mean_scores, read_mask, score
from .workers import cpu_count, work

__all__ = ["segment"]


def segment(
    paths: Iterable[str],
    out: str | Path,
    settings: Settings | None = None,
    *,
    jobs: int | None = None,
    overlay: bool = False,
    sheet: bool = True,
    force: bool = False,
    truth: MaskFolder | None = None,
    progress: bool = False,
) -> Report[MaskRow]:
    """Write the foreground mask of every picture, results.csv and a contact sheet into `out`.

    A picture that cannot be segmented is reported in its row, and the others go on. What an earlier
    run has left in `out` stays, and stays listed, until its mask is gone.

    Args:
        paths: files, folders and glob patterns: see `find_pictures`.
        out: output folder. masks/ mirrors the folders that the pictures were found in.
        jobs: pictures in work at once; None: one for each CPU.
        overlay: also write overlays/….jpg, each picture with its background faded.
        sheet: write index.html and its small pictures.
        force: do again what an earlier run has done from the same file with the same settings.
        truth: true masks to score against, under the pictures' names.
        progress: draw a bar if stderr is a terminal, and name there what fails.

    Raises:
        ValueError: no picture, or `out/masks` is not of an earlier run.
        BackendUnavailable: the named backend cannot run here.
        Interrupted: Ctrl-C; what is done has been written.
    """
    task = MaskTask(Path(out), (settings or Settings()).resolved(), overlay, sheet)
    run = Run(paths, task, force)

    def score_all(report: Report) -> None:
        if truth is not None:
            report.unscored = _score(truth, run, jobs or cpu_count(), progress)

    def draw(listed: Sequence[tuple[str, MaskRow]]) -> None:
        if sheet:
            shown = [(key, row) for key, row in listed if not row.ok or SHEET.has(task.out, row)]
            facts = [_summary([row for _, row in listed]), task.settings.text()]
            write_sheet(task.out, SHEET, shown, facts)

    return run.work(jobs, progress, score_all, draw)


def _score(truth: MaskFolder, run: Run[MaskRow], jobs: int, progress: bool) -> int:
    """Fill in the rows' scores; how many masks have none."""
    truth.settle()
    rows, failures = run.rows, []

    def one(source: Source) -> dict[str, float] | str:
        try:
            mask, _ = read_mask(str(run.task.outputs(rows[source.key].stem)[0]), "grey")
            return score(mask, *truth.read(source.stem))
        except PictureError as error:
            return str(error)

    def record(source: Source, result: dict[str, float] | str) -> None:
        row = rows[source.key]
        if isinstance(result, dict):
            row.scores = result
            return
        failures.append(source)
        row.note = "; ".join(filter(None, (row.note, f"not scored: {result}")))
        if progress:
            tqdm.write(f"{row.file}: not scored: {result}", file=sys.stderr)

    done = [source for source in run.sources if rows[source.key].ok]
    work(one, done, record, jobs, "masks", progress)
    return len(failures)


def _summary(rows: Sequence[MaskRow]) -> str:
    done = [row for row in rows if row.ok]
    text = f"{len(done)} picture{'s' * (len(done) != 1)}"
    if len(done) < len(rows):
        text += f", {len(rows) - len(done)} failed"
    if means := mean_scores(row.scores for row in done):
        text += f", mean IoU {means['iou']:.1%} (oracle polarity {means['oracle_iou']:.1%})"
    return text
