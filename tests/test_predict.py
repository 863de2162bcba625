"""From pictures to masks on disk: `fastseg.predict`."""

import os
import re
import threading
import time
from html import unescape
from urllib.parse import unquote

import numpy as np
import pytest

from fastseg import backends
from fastseg.predict import Settings, find_pictures, segment
from fastseg.predict.pictures import working_size
from fastseg.predict.workers import Stopped, work
from tests.squares import QUICK, load, masks, square, table


@pytest.fixture
def pictures(tmp_path):
    """a.png, sub/b.png and sub/deep/c.jpg in a folder."""
    folder = tmp_path / "pictures"
    (folder / "sub" / "deep").mkdir(parents=True)
    square().save(folder / "a.png")
    square(40, (250, 250, 0)).save(folder / "sub" / "b.png")
    square(30, (0, 250, 0)).save(folder / "sub" / "deep" / "c.jpg", quality=95)
    return folder


# --- what is written ---------------------------------------------------------------------------


def test_mask_finds_the_square(tmp_path):
    square(96).save(tmp_path / "x.png")
    report = segment([str(tmp_path / "x.png")], tmp_path / "out", Settings(size=48, init=(78,)))
    values = load(tmp_path / "out" / "masks" / "x.png")
    assert (values.dtype, values.shape) == (np.uint8, (96, 96))
    assert set(np.unique(values)) == {0, 255}
    truth = np.zeros((96, 96), bool)
    truth[24:72, 24:72] = True
    assert ((values == 255) == truth).mean() > 0.98
    (row,) = report.rows
    assert (row.width, row.height, row.note) == (96, 96, "")
    assert row.foreground == pytest.approx((values == 255).mean())
    assert row.status == "fixed_point"
    # Each layer is inpainted from the other: blue in the middle, red around it.
    inpainted = load(tmp_path / "out" / "sheet" / "x.inpainted.jpg").astype(int)
    middle, corner = inpainted[160, 160], inpainted[10, 10]
    assert middle[2] > middle[0] + 100
    assert corner[0] > corner[2] + 100


def test_results_and_folders_mirror_the_input(pictures, tmp_path):
    report = segment([str(pictures)], tmp_path / "out", QUICK, overlay=True)
    assert list(masks(tmp_path / "out")) == ["a.png", "sub/b.png", "sub/deep/c.png"]
    assert load(tmp_path / "out" / "overlays" / "sub" / "b.jpg").shape == (40, 40, 3)
    rows = table(tmp_path / "out")
    assert [row["file"] for row in rows] == [
        str(pictures / n) for n in ("a.png", "sub/b.png", "sub/deep/c.jpg")
    ]
    assert rows[1]["mask"] == "masks/sub/b.png"
    assert rows[1]["size"] == "40x40"
    for row, done in zip(rows, report.rows, strict=True):
        assert float(row["foreground_share"]) == pytest.approx(done.foreground, abs=1e-4)
        assert float(row["inpainting_error"]) == pytest.approx(done.error, abs=1e-6)
        assert int(row["steps"]) == done.steps
        assert int(row["steps"]) <= 2
        assert row["status"] in ("fixed_point", "cycle", "exhausted")
        assert float(row["seconds"]) > 0
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("jobs", [1, 3])
def test_masks_do_not_depend_on_jobs(pictures, tmp_path, jobs):
    segment([str(pictures)], tmp_path / "out", QUICK, jobs=jobs, sheet=False)
    segment([str(pictures)], tmp_path / "other", QUICK, jobs=2, sheet=False)
    assert masks(tmp_path / "out") == masks(tmp_path / "other")
    assert not (tmp_path / "out" / "index.html").exists()


def test_contact_sheet_needs_only_files_beside_it(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    name = "50% <b>&amp; #1?'\".png"
    square().save(folder / name)
    (folder / "broken.png").write_bytes(b"no <picture>")
    segment([str(folder)], tmp_path / "out", QUICK, overlay=True)
    html = (tmp_path / "out" / "index.html").read_text("utf-8")
    links = [unquote(link) for link in re.findall(r'(?:src|href)="([^"]*)"', html)]
    assert len(links) == 7  # four pictures, and links to the image, the mask and the overlay
    for link in links:
        assert (tmp_path / "out" / link).is_file(), link
    assert "//" not in html.replace("<!doctype", "")
    assert "<b>" not in html
    assert name in unescape(html)
    assert html.count('loading="lazy"') == 4
    assert "not a picture that Pillow can read" in html


def test_long_sheets_have_pages(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("fastseg.predict.sheet.PER_PAGE", 1)
    segment([str(pictures)], tmp_path / "out", QUICK)
    pages = sorted(path.name for path in (tmp_path / "out").glob("*.html"))
    assert pages == ["index-2.html", "index-3.html", "index.html"]
    assert "index-3.html" in (tmp_path / "out" / "index.html").read_text()
    monkeypatch.undo()
    segment([str(pictures)], tmp_path / "out", QUICK)
    assert [path.name for path in (tmp_path / "out").glob("*.html")] == ["index.html"]


def test_small_pictures_are_not_enlarged():
    assert working_size(640, 480, 128) == (171, 128)
    assert working_size(480, 6400, 128) == (128, 1707)
    assert working_size(100, 2000, 128) == (100, 2000)
    assert working_size(640, 480, None) == (640, 480)


# --- which files, and what names ---------------------------------------------------------------


def stems(*paths, out=None):
    return [source.stem for source in find_pictures([str(p) for p in paths], out)]


def test_folders_globs_and_files(pictures, monkeypatch):
    (pictures / "notes.txt").write_text("no picture")
    (pictures / ".hidden.png").touch()
    (pictures / "upper.JPG").touch()
    everything = ["a", "upper", "sub/b", "sub/deep/c"]
    assert stems(pictures) == everything
    assert sorted(stems(pictures / "**")) == sorted(everything)
    assert stems(pictures / "sub") == ["b", "deep/c"]
    assert stems(pictures / "*.png") == ["a"]
    assert stems(pictures / "s*") == ["sub/b", "sub/deep/c"]
    assert stems(pictures / "sub" / "b.png", pictures / "notes.txt") == ["b", "notes"]
    # Once each, whatever the way.
    assert stems(pictures / "a.png", pictures, pictures / "sub") == everything
    monkeypatch.chdir(pictures)
    assert stems(".") == everything
    assert stems("*/*.png", "a.png", str(pictures / "a.png")) == ["sub/b", "a"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    (tmp_path / "a[1].png").touch()
    (tmp_path / "a1.png").touch()
    assert stems(tmp_path / "a[1].png") == ["a[1]"]


def test_names_never_collide(pictures, tmp_path):
    square(24, (0, 0, 0)).save(pictures / "a.bmp")
    square(24, (255, 255, 255)).save(pictures / "A_2.png")
    square(24, (90, 90, 90)).save(pictures / "sub" / "a.png")
    paths = [str(pictures / name) for name in ("a.png", "a.bmp", "A_2.png", "sub/a.png")]
    report = segment(paths, tmp_path / "out", QUICK, sheet=False)
    assert [row.stem for row in report.rows] == ["a", "a_2", "A_2_2", "a_3"]
    # Whoever comes later, in a run of its own, takes nobody's name either.
    before = masks(tmp_path / "out")
    (tmp_path / "late").mkdir()
    square(24, (1, 200, 1)).save(tmp_path / "late" / "a.png")
    late = segment([str(tmp_path / "late")], tmp_path / "out", QUICK, sheet=False)
    assert [row.stem for row in late.rows] == ["a_4"]
    after = masks(tmp_path / "out")
    assert after.pop("a_4.png")
    assert after == before
    assert len(table(tmp_path / "out")) == 5


def test_output_inside_the_input_is_not_input(pictures):
    out = pictures / "results"
    first = segment([str(pictures)], out, QUICK, overlay=True)
    again = segment([str(pictures)], out, QUICK, overlay=True)
    assert len(again.rows) == again.kept == len(first.rows) == 3
    # Nor is that of another run, nor what a shell's glob finds there.
    assert stems(pictures) == ["a", "sub/b", "sub/deep/c"]
    assert stems(*pictures.rglob("*.png"), out=str(out)) == stems(
        pictures / "a.png", pictures / "sub" / "b.png"
    )


@pytest.mark.parametrize("name", ["masks", "index.html"])
def test_what_others_made_is_not_overwritten(pictures, tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{name} is not of an earlier run: choose another folder"):
        segment([str(pictures)], tmp_path / "out", QUICK)


def test_nothing_to_do_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"no pictures in .*in, .*gone\.png"):
        segment([str(tmp_path / "in"), str(tmp_path / "gone.png")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    square().save(path)
    (row,) = segment([path], tmp_path / "out", QUICK).rows
    assert row.status != "failed", row.note
    assert table(tmp_path / "out")[0]["file"].endswith("caf\ufffd.png")
    assert segment([path], tmp_path / "out", QUICK).kept == 1


# --- the second run ----------------------------------------------------------------------------


def test_second_run_does_what_is_missing(pictures, tmp_path):
    out = tmp_path / "out"
    first = segment([str(pictures)], out, QUICK)
    assert first.kept == 0
    before = (out / "results.csv").read_bytes()
    assert segment([str(pictures)], out, QUICK).kept == 3
    assert (out / "results.csv").read_bytes() == before

    (out / "masks" / "a.png").unlink()
    assert segment([str(pictures)], out, QUICK).kept == 2
    (out / "sheet" / "sub" / "b.mask.png").unlink()
    assert segment([str(pictures)], out, QUICK).kept == 2
    square(24, (0, 0, 0)).save(pictures / "a.png")
    assert segment([str(pictures)], out, QUICK).kept == 2
    assert segment([str(pictures)], out, QUICK, overlay=True).kept == 0
    assert segment([str(pictures)], out, QUICK, force=True).kept == 0
    assert segment([str(pictures)], out, QUICK).kept == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 20},
        {"size": None},
        {"init": (44,)},
        {"iterations": 3},
        {"lamb": 0.0},
        {"smoothing": "paper"},
        {"boundary_only": False},
        {"taps": 21, "passes": 1},
    ],
)
def test_other_settings_are_done_anew(pictures, tmp_path, changed):
    segment([str(pictures)], tmp_path / "out", QUICK, sheet=False)
    settings = Settings(**{"size": 24, "iterations": 2, **changed})
    assert segment([str(pictures)], tmp_path / "out", settings, sheet=False).kept == 0
    assert segment([str(pictures)], tmp_path / "out", settings, sheet=False).kept == 3


def test_a_killed_run_is_taken_up(pictures, tmp_path):
    """The journal's last line may be cut short, and there may be no table."""
    out = tmp_path / "out"
    segment([str(pictures)], out, QUICK)
    (out / "results.csv").unlink()
    journal = out / "fastseg.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    assert segment([str(pictures)], out, QUICK).kept == 2
    assert len(table(out)) == 3
    assert segment([str(pictures)], out, QUICK).kept == 3


def test_a_backend_that_cannot_run_is_an_error(pictures, tmp_path):
    if backends.why_not("cuda") is None:
        pytest.skip("it can run here")
    with pytest.raises(backends.BackendUnavailable, match="backend 'cuda' cannot run iem"):
        segment([str(pictures)], tmp_path / "out", Settings(backend="cuda"))
    assert not (tmp_path / "out").exists()


# --- threads -----------------------------------------------------------------------------------


def test_work_holds_one_item_a_thread_and_ends_with_ctrl_c():
    lock, busy, most = threading.Lock(), 0, 0

    def function(item):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.0005)
        with lock:
            busy -= 1
        return item * item

    done: dict[int, int] = {}
    work(function, range(100), done.__setitem__, 4, "item", False)
    assert done == {i: i * i for i in range(100)}
    assert most <= 4

    recorded = []

    def record(item, result):
        recorded.append(item)
        if len(recorded) == 10:
            raise KeyboardInterrupt

    with pytest.raises(Stopped) as stop:
        work(function, range(10_000), record, 4, "item", False)
    assert stop.value.abandoned == 0
    assert len(recorded) < 10_000
    assert len(set(recorded)) == len(recorded)


def test_an_error_of_the_recorder_is_raised():
    def record(item, result):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        work(lambda i: i, range(100), record, 2, "item", False)


def test_work_does_not_wait_for_ever():
    gate = threading.Event()

    def record(item, result):
        raise KeyboardInterrupt

    with pytest.raises(Stopped) as stop:
        work(lambda i: i and gate.wait(), [0, 1], record, 2, "item", False, patience=0.05)
    gate.set()
    assert stop.value.abandoned == 1
