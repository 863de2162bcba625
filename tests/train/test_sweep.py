"""`fastseg sweep`: tables of runs."""

import csv
import statistics

import pytest

from fastseg.cli import main
from fastseg.methods import METHODS
from fastseg.train import TrainConfig, parse
from fastseg.train.config import to_flags
from fastseg.train.log import read_metrics
from fastseg.train.restore import restore
from fastseg.train.tables import TABLES

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
    assert lines[2].startswith("| accuracy, percent | data | variant | last | best (oracle) | pub")
    assert len(lines) == 8
    last = float(found[0]["last"]), float(found[0]["last s.d."])
    assert lines[4].startswith(
        f"| narrow | fruits?limit=8 | tiny | {last[0]:.1f} ± {last[1]:.1f} |"
    )
    assert lines[4].endswith(" | 50.2 | 2 |")
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


def scored(run):
    return 100 * read_metrics(run)[-1]["scores"]["tiny"]["last"]["accuracy"]


def test_what_is_done_is_not_done_again(sweep, tmp_path, capsys):
    assert sweep("--seeds", "1") == 0
    first = capsys.readouterr().out
    assert "epoch 1/1" in first
    data = ("fruits?limit=8", "fruits?limit=9")
    assert sweep("--seeds", "1", data=data) == 0
    second = capsys.readouterr().out
    assert second.count("epoch 1/1") == 2
    assert len(rows(tmp_path / "out" / "table.csv")) == 8
    assert first.splitlines()[-1].split()[3:5] == second.splitlines()[-5].split()[3:5]


def test_a_run_that_fails_is_named_and_the_others_go_on(sweep, tmp_path, capsys):
    text = TABLE.replace("width: 3", "width: 3, nan_at: 1")
    (tmp_path / "t.yaml").write_text(text)
    assert sweep("--seeds", "1") == 1
    assert "failed: the loss became nan in step 1" in capsys.readouterr().err
    assert {row["row"] for row in rows(tmp_path / "out" / "table.csv")} == {"wide"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {a: {}}", "must hold method, rows, and maybe title and options"),
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
    with pytest.raises(SystemExit):
        main(["sweep", "inmars-table2", "--out", "x"])
    assert "required: --data" in capsys.readouterr().err


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
