"""`fastseg reproduce`, or `sweep`: tables of runs."""

import csv
import datetime
import itertools
import statistics
from pathlib import Path

import pytest

from fastseg.cli import main
from fastseg.methods import METHODS
from fastseg.train import TrainConfig, parse
from fastseg.train.checkpoint import versions
from fastseg.train.config import read_yaml, to_flags
from fastseg.train.log import read_metrics
from fastseg.train.restore import restore
from fastseg.train.results import PERCENT, cells, measured
from fastseg.train.tables import TABLES

CONFIGS = Path(__file__).parents[2] / "configs"
TABLE = """
title: Widths
method: tiny
options: {epochs: 1, norm: false}
rows:
  narrow: {width: 3, published: {fruits: 50.25}}
  wide: {width: 9, norm: true}
"""


@pytest.fixture
def sweep(tmp_path, one_thread):
    (tmp_path / "t.yaml").write_text(TABLE)

    def run(*options, data=("fruits?limit=8",)):
        specs = [word for spec in data for word in ("--data", spec)]
        return main(["sweep", str(tmp_path / "t.yaml"), *specs, "--out", str(tmp_path / "out"),
                     "--size", "16", "--no-tensorboard", *options])  # fmt: skip

    return run


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_runs_with_every_seed(sweep, tmp_path, capsys):
    assert sweep("--seeds", "2", "--batch-size", "2") == 0
    printed = capsys.readouterr().out
    assert "Widths\n" in printed
    found = rows(tmp_path / "out" / "table.csv")
    assert [(row["row"], row["variant"]) for row in found] == [
        ("narrow", "tiny"), ("narrow", "shifted"), ("wide", "tiny"), ("wide", "shifted"),
    ]  # fmt: skip
    assert [row["published"] for row in found] == ["50.25", "50.25", "", ""]
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert lines[0] == "# Widths"
    heads = "row", "data", "variant", "measure", "last", "best (oracle)", "published", "mIoU"
    assert lines[2] == f"| {' | '.join(heads)} | minutes | seeds |"
    assert len(lines) == 8
    last = float(found[0]["last"]), float(found[0]["last s.d."])
    assert lines[4].startswith(
        f"| narrow | fruits?limit=8 | tiny | accuracy | {last[0]:.1f} ± {last[1]:.1f} |"
    )
    assert " | 50.2 | " in lines[4]
    assert lines[4].endswith(" | 2 |")
    for label, width in (("narrow", 3), ("wide", 9)):
        runs = [tmp_path / "out" / "fruits_limit=8" / label / seed for seed in "01"]
        trained = [restore(run) for run in runs]
        assert [run.config.width for run in trained] == [width] * 2
        assert [run.config.norm for run in trained] == [label == "wide"] * 2
        assert [run.config.batch_size for run in trained] == [2] * 2
        assert [run.options.seed for run in trained] == [0, 1]
        scores = [scored(run) for run in runs]
        (row,) = (r for r in found if (r["row"], r["variant"]) == (label, "tiny"))
        assert float(row["last"]) == pytest.approx(statistics.fmean(scores))
        assert float(row["last s.d."]) == pytest.approx(statistics.stdev(scores))
        assert f"{statistics.fmean(scores):.1f} ± {statistics.stdev(scores):.1f}" in printed
        scores = [scored(run, "miou") for run in runs]
        assert float(row["mIoU"]) == pytest.approx(statistics.fmean(scores))
        assert float(row["mIoU s.d."]) == pytest.approx(statistics.stdev(scores))


def scored(run, measure="accuracy"):
    return 100 * read_metrics(run)[-1]["scores"]["tiny"]["last"][measure]


def test_every_epoch_of_every_run_is_listed(sweep, tmp_path):
    assert sweep("--seeds", "2", "--epochs", "2") == 0
    found = rows(tmp_path / "out" / "runs.csv")
    expected = itertools.product(("narrow", "wide"), "01", "12", ("tiny", "shifted"))
    names = ("row", "seed", "epoch", "variant")
    assert [tuple(row[name] for name in names) for row in found] == list(expected)
    run = tmp_path / "out" / "fruits_limit=8" / "wide" / "1"
    assert found[-1]["accuracy"] == f"{scored(run):.2f}".rstrip("0").rstrip(".")
    assert {row["commit"] for row in found} == {versions()["commit"][:12]}
    assert all(datetime.date.fromisoformat(row["date"]) for row in found)


def test_rows_may_read_their_options_from_files(sweep, tmp_path):
    (tmp_path / "own.yaml").write_text("data: odd\nwidth: 5\nlr: 0.5")
    table = TABLE.replace("width: 3", f"width: 3, config: {tmp_path}/own.yaml")
    (tmp_path / "t.yaml").write_text(table)
    assert sweep("--seeds", "1") == 0
    config = restore(tmp_path / "out" / "fruits_limit=8" / "narrow" / "0").config
    assert (config.width, config.lr) == (3, 0.5)


def test_what_is_done_is_not_done_again(sweep, tmp_path, capsys):
    assert sweep("--seeds", "1") == 0
    first = capsys.readouterr().out
    assert "epoch 1/1" in first
    data = ("fruits?limit=8", "fruits?limit=9")
    assert sweep("--seeds", "1", data=data) == 0
    second = capsys.readouterr().out
    assert second.count("epoch 1/1") == 2
    assert len(rows(tmp_path / "out" / "table.csv")) == 8
    assert first.splitlines()[-1].split()[4:6] == second.splitlines()[-5].split()[4:6]


def test_a_run_that_fails_is_named_and_the_others_go_on(sweep, tmp_path, capsys):
    text = TABLE.replace("width: 3", "width: 3, nan_at: 1")
    (tmp_path / "t.yaml").write_text(text)
    assert sweep("--seeds", "1") == 1
    assert "failed: the loss became nan in step 1" in capsys.readouterr().err
    assert {row["row"] for row in rows(tmp_path / "out" / "table.csv")} == {"wide"}


def test_options_are_for_the_rows_whose_method_has_them(sweep, tmp_path):
    (tmp_path / "t.yaml").write_text(TABLE + "  other: {method: random}")
    assert sweep("--seeds", "1", "--pair", "3", "4", "--no-norm", "--batch-size=2") == 0
    runs = [tmp_path / "out" / "fruits_limit=8" / label / "0" for label in ("narrow", "other")]
    tiny, other = (restore(run).config for run in runs)
    assert (tiny.pair, tiny.norm) == ((3, 4), False)
    assert tiny.batch_size == other.batch_size == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {a: {}}", "must hold method, rows, and maybe title, options and measures"),
        ("method: tiny\nrows: {a: {}}\nmeasures: iou", "`measures` must be a list, got 'iou'"),
        ("method: tiny\nrows: [a]", "`rows` and `options` must be of the form NAME: VALUE"),
        ("method: odd\nrows: {a: {}}", "no method 'odd': there are "),
        ("method: tiny\nrows: {a: {}, b: {wdth: 1}}", "row 'b': no option wdth; there are data"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_bad_tables(sweep, tmp_path, capsys, text, message):
    """Before anything runs."""
    (tmp_path / "t.yaml").write_text(text)
    assert sweep() == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_tables_and_options(sweep, capsys, tmp_path):
    assert main(["sweep", "inmars-table9", "--data", "fruits", "--out", "x"]) == 2
    assert "no table 'inmars-table9': there are inmars-table1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        sweep("--wdth", "3")
    assert "Unrecognized options: --wdth" in " ".join(capsys.readouterr().err.split())
    assert main(["sweep", "ac-fig7", "--out", str(tmp_path / "out")]) == 2
    assert "`--data` must be given: nothing is published" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_sets_that_are_not_given_are_named(capsys, tmp_path, monkeypatch):
    """With where to get them, and what was published of them."""
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "iem-table4"]) == 1
    printed = capsys.readouterr()
    assert "not there: flowers. Say --data flowers:ROOT. ROOT/setid.mat does not" in printed.err
    assert "Get 102flowers.tgz, " in printed.err
    assert "not there: cub. Say --data cub:ROOT. " in printed.err
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert "default cub mask, better side (oracle) iou 52.2 0" in lines
    assert len(lines) == 2 + 4 * 2
    assert not list(tmp_path.iterdir())


def test_a_data_set_that_cannot_be_read_is_named_once_and_the_others_go_on(sweep, tmp_path, capsys):
    nowhere = f"folder:{tmp_path}/nowhere"
    assert sweep("--seeds", "2", data=(nowhere, "fruits?limit=8")) == 1
    assert capsys.readouterr().err.count(f"not there: {nowhere}. ") == 1
    found = rows(tmp_path / "out" / "table.csv")
    assert {row["data"] for row in found} == {"fruits?limit=8"}
    assert {row["seeds"] for row in found} == {"2"}


def test_a_table_may_have_several_measures(sweep, tmp_path):
    text = TABLE.replace("50.25", "{tiny: [10, 20.5], shifted: [30]}")
    (tmp_path / "t.yaml").write_text(text + "measures: [iou, dice]\n")
    assert sweep("--seeds", "1") == 0
    found = rows(tmp_path / "out" / "table.csv")
    names = [(row["row"], row["variant"], row["measure"]) for row in found]
    assert names == list(
        itertools.product(("narrow", "wide"), ("tiny", "shifted"), ("iou", "dice"))
    )
    assert [row["published"] for row in found[:4]] == ["10", "20.5", "30", ""]
    (line,) = read_metrics(tmp_path / "out" / "fruits_limit=8" / "narrow" / "0")
    iou = line["scores"]["tiny"]["last"]["iou"][-1] or 0.0
    assert float(found[0]["last"]) == pytest.approx(100 * iou)
    assert float(found[1]["last"]) == pytest.approx(100 * 2 * iou / (1 + iou))
    assert float(found[0]["minutes"]) == pytest.approx(line["seconds"] / 60)


def test_of_what_methods_measure_themselves_too():
    """α₂'s lowest value was published; of scores the best is the highest."""
    runs = [
        [{"seconds": 60.0, "measures": {"alpha2": value}} for value in values]
        for values in ((0.5, 0.2, 0.4), (0.3, 0.1, 0.2))
    ]
    (row,) = measured("12", "cifar10", ("alpha2",), 1.39, runs)
    assert (row["last"], row["best (oracle)"]) == pytest.approx((0.3, 0.15))
    assert row["last s.d."] == pytest.approx(0.02**0.5)
    assert (row["mIoU"], row["published"], row["minutes"], row["seeds"]) == (None, 1.39, 3, 2)
    shown = ("12", "cifar10", "", "alpha2", "0.3 ± 0.141", "0.15 ± 0.0707", "1.39", "", "3.0", "2")
    assert cells([row])[1] == shown
    lines = [
        {"seconds": 1.0, "scores": {"a": {"last": {"accuracy": a, "miou": m, "iou": [m]}}}}
        for a, m in ((0.5, 0.7), (0.6, 0.2))
    ]
    (row,) = measured("x", "fruits", ("miou",), {"a": 64.07}, [lines])
    assert (row["last"], row["best (oracle)"], row["published"]) == pytest.approx((20, 70, 64.07))


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_papers_are_made_of_options(name):
    table = TABLES[name]
    configs = []
    for label, row in table["rows"].items():
        options = {k: v for k, v in row.items() if k not in ("method", "published")}
        method = row.get("method", table["method"])
        kind = METHODS[method].Config
        own = table.get("options", {}) if method == table["method"] else {}
        flags = to_flags({**own, **options}, (TrainConfig, kind), label)
        configs.append((method, parse(method, kind, ["--data", "x", "--out", "y", *flags])[1]))
    assert len({repr(config) for config in configs}) == len(table["rows"])
    assert all(row.get("published") for row in table["rows"].values()) or name == "ac-fig7"
    assert set(table.get("measures", ())) <= {*PERCENT, "alpha2"}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_can_be_read(path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)  # from where rows name their files
    content = read_yaml(str(path))
    for label, row in content.get("rows", {"": {"config": str(path)}}).items():
        name = row.get("method", content["method"])
        options = {k: v for k, v in row.items() if k not in ("method", "config")}
        flags = to_flags(options, (TrainConfig, METHODS[name].Config), label)
        flags += ["--config", row["config"]] if "config" in row else []
        parse(name, METHODS[name].Config, ["--data", "x", "--out", "y", *flags])
