"""docs/gpu.md says what ran on which card, as benchmarks/results has it."""

from benchmarks import gpu_docs, report
from benchmarks.gpu_docs import BEGIN, END

ABOUT = {
    "commit": "c0ffee",
    "date": "2026-01-02T03:04Z",
    "machine": "NVIDIA X",
    "packages": "torch",
}
ROW = {
    "case": "slic", "shape": "8×3", "variant": "cuda", "mode": "eager", "ms": 2.0, "ratio": 1.0,
    "per_second": 500.0, "aim": "per_second ≥ 900", "gbytes": 100.0, "gbytes_bound": 400.0,
    "share": 0.5, "bound": "memory",
}  # fmt: skip


def rows(*changes):
    return [{**ROW, **change, **ABOUT} for change in changes]


def test_the_page_is_what_the_results_say():
    page = (gpu_docs.ROOT / "docs" / "gpu.md").read_text("utf-8")
    assert gpu_docs.written(page, gpu_docs.RESULTS) == page, "run `python -m benchmarks.gpu_docs`"


def test_without_results_nothing_has_run(tmp_path):
    (tmp_path / "some-cpu-2-cores").mkdir()
    text = gpu_docs.runs(tmp_path)
    assert text.startswith("Not run on any card: ")
    assert "`region_pool`" in text
    assert "`iem_batch`" in text


def test_a_card_s_table(tmp_path):
    folder = tmp_path / "nvidia-x"
    found = rows(
        {},
        {"mode": "graph", "ms": 1.0, "per_second": 1000.0, "gbytes": 200.0},
        {"variant": "peer", "ratio": 9.0, "aim": "ratio ≥ 10"},
        {"variant": "peer", "mode": "graph", "ratio": 11.0, "aim": "ratio ≥ 10"},
        {"variant": "on the CPU", "ratio": 800.0, "aim": ""},
    )
    report.write_csv(found, list(found[0]), folder / "slic.csv")
    passed = {"check": "memcheck", "what": "a", "outcome": "passed", **ABOUT}
    failed = {**passed, "what": "b", "outcome": "failed with status 99"}
    report.write_csv([passed, passed, failed], list(passed), folder / "checks.csv")
    why = {"case": "slic", "shape": "big", "why": "failed: out of memory", **ABOUT}
    report.write_csv([why], list(why), folder / "failures.csv")
    text = gpu_docs.written(f"before\n{BEGIN}old\n{END}after\n", tmp_path)
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "### NVIDIA X" in text
    assert "c0ffee (2026-01-02)" in text
    assert "memcheck passed (2), memcheck failed with status 99 (1)" in text
    aims = "per_second ≥ 900: 1e+03, met; peer ratio ≥ 10: 11, met"
    peers = "peer 11×, on the CPU 800×"
    assert f"| `slic` | 8×3 | 2 | 1 | 50% | 50% memory | {aims} | {peers} |" in text
    assert "| `slic` | big | failed: out of memory |" in text
    assert "`slic`" not in text.split("Not run on any card")[1]


def test_an_aim_may_be_missed():
    (row,) = rows({"aim": "ms ≤ 1.5"})
    assert gpu_docs.met({k: str(v) for k, v in row.items()}) == "ms ≤ 1.5: 2, **missed**"
    (row,) = rows({"aim": "copy ≥ 0.25"})
    assert gpu_docs.met({k: str(v) for k, v in row.items()}) == "copy ≥ 0.25: 0.25, met"
