"""The benchmark harness: registry, gate, statistics, files."""

import csv
import itertools
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # `benchmarks` is not installed

from benchmarks import __main__ as program  # noqa: E402
from benchmarks import cuts, machine, quality, registry, report, runner, timers  # noqa: E402
from benchmarks.images import image_a_thread, photographs  # noqa: E402
from benchmarks.registry import CASES, GateError, Problem, Setup, Variant, Work  # noqa: E402


@pytest.fixture(autouse=True)
def _known_bounds(monkeypatch):
    """10 GB/s and 100 GFLOP/s: measuring them takes seconds, and tests want to know them."""
    monkeypatch.setattr(machine, "bounds", lambda device, precision="fp32": (1e10, 1e11))


def doubling(factor: int) -> Problem:
    """Doubling a vector in two ways, the second multiplies by `factor`."""
    x = torch.arange(1000.0)

    def gate(results) -> None:
        for name, result in results.items():
            registry.require(torch.equal(result, x + x), f"{name} does not double")

    def work(result: torch.Tensor) -> Work:
        return Work(len(result), flops=len(result), bytes=2 * result.nbytes)

    ways = [
        Variant("add", lambda: x + x, work),
        Variant("multiply", lambda: x * factor, work, ("≥", 2), lambda: 3 * 2**20),
    ]
    return Problem("1000", "number", ways, gate)


@pytest.fixture
def doubling_case(monkeypatch):
    """Registers `doubling` under its name, right or wrong."""
    monkeypatch.setattr(registry, "CASES", {})

    def register(factor: int) -> registry.Case:
        registry.case("doubling", "cpu")(lambda setup: iter([doubling(factor)]))
        monkeypatch.setattr(program, "CASES", registry.CASES)
        return registry.CASES["doubling"]

    return register


def test_every_case_has_a_device_and_says_what_it_measures():
    assert {"iem_iteration", "iem_end_to_end", "iem_size", "iem_batch"} <= set(CASES)
    for case in CASES.values():
        assert set(case.devices) <= {"cpu", "gpu"}
        assert case.devices
        assert case.doc


def test_a_name_is_registered_once(doubling_case):
    doubling_case(2)
    with pytest.raises(ValueError, match="'doubling' exists already"):
        doubling_case(2)


def test_a_wrong_result_is_not_timed(doubling_case):
    found = list(runner.run(doubling_case(3), Setup()))
    assert found == [
        runner.Failure("doubling", "1000", "WRONG, not measured: multiply does not double")
    ]


def test_a_red_gate_exits_with_1_and_writes_nothing(doubling_case, tmp_path, capsys):
    doubling_case(3)
    assert program.main(["--out", str(tmp_path)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["failures.csv"]
    shown = capsys.readouterr()
    assert "doubling: 1000: WRONG, not measured: multiply does not double" in shown.err
    assert "median" not in shown.out


def test_iem_masks_must_be_the_reference_s_ours_more_so_than_the_peers():
    from benchmarks.cases.inpaint import check_masks
    from fastseg import IEMResult

    truth = torch.zeros(1, 1, 100, 100, dtype=torch.bool)
    for wrong, peer_passes, we_pass in ((5, True, True), (50, True, False), (500, False, False)):
        masks = truth.clone()
        masks.view(-1)[:wrong] = True
        ours = IEMResult(masks, None, None, None)
        for name, result, passes in (("peer", masks, peer_passes), ("ours", ours, we_pass)):
            if passes:
                check_masks({name: result}, truth)
            else:
                with pytest.raises(GateError, match=f"{name}: {1 - wrong / 1e4:.4%}"):
                    check_masks({name: result}, truth)


def test_variants_take_turns_until_their_time_is_up(monkeypatch):
    now = itertools.count()
    order = []
    monkeypatch.setattr(runner.time, "perf_counter", lambda: next(now))  # each look takes 1 s

    def timer(name: str, seconds: float):
        def take() -> float:
            order.append(name)
            return seconds

        return take

    pace = runner.Pace(least=2, most=9, seconds=3.0)
    samples = runner.interleave([timer("a", 0.1), timer("b", 0.2)], pace)
    assert samples == [[0.1] * 3, [0.2] * 3]
    assert "".join(order) == "ababab"


def test_a_slow_variant_drops_out_and_a_fast_one_stops_at_the_most(monkeypatch):
    clock = [0.0]

    def take(seconds: float) -> float:
        clock[0] += seconds
        return seconds

    monkeypatch.setattr(runner.time, "perf_counter", lambda: clock[0])
    pace = runner.Pace(least=2, most=5, seconds=4.0)
    samples = runner.interleave([lambda: take(0.1), lambda: take(9.0)], pace)
    assert [len(s) for s in samples] == [5, 2]


def test_a_row_gives_quantiles_per_unit_ratio_rates_and_share_of_the_bound():
    problem = doubling(2)
    variant = problem.variants[1]
    work = Work(2, flops=4e9, bytes=1e9)
    timer = timers.Timer(variant, "eager", work, lambda: 0.0, 3 * 2**20)
    times = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    row = runner._row("doubling", problem, timer, times, 0.5, (1e10, 1e11))
    assert (row.ms_p20, row.ms, row.ms_p80) == pytest.approx((900, 1500, 2100))
    assert row.per_second == pytest.approx(2 / 3)
    assert row.ratio == pytest.approx(3)  # 1.5 s against 0.5 s a unit
    assert (row.gflops, row.gbytes) == pytest.approx((4 / 3, 1 / 3))
    # 0.04 s of arithmetic, 0.1 s of traffic
    assert (row.bound, row.share) == ("memory", pytest.approx(0.1 / 3))
    assert (row.memory_mib, row.goal) == (3.0, "≥ 2")


def test_wall_clock_repeats_a_short_call_and_gives_the_time_of_one(monkeypatch):
    clock = [0.0]

    def call() -> None:
        clock[0] += 1e-3

    monkeypatch.setattr(runner.time, "perf_counter", lambda: clock[0])
    seconds = timers._wall_clock(call)
    assert seconds() == pytest.approx(1e-3)
    before = clock[0]
    seconds()
    assert clock[0] - before == pytest.approx(timers.SHORTEST)


def test_a_run_writes_a_csv_that_says_where_it_is_from_and_a_plot(doubling_case, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    doubling_case(2)
    assert program.main(["--quick", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"doubling.csv", "doubling.png"}
    assert (tmp_path / "doubling.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "doubling.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["variant"] for line in lines] == ["add", "multiply"]
    assert float(lines[0]["ratio"]) == 1
    for line in lines:
        assert 0 < float(line["ms_p20"]) <= float(line["ms"]) <= float(line["ms_p80"])
        assert 1 <= int(line["rounds"]) <= 3  # fewer where the machine is busy
        assert "torch" in line["packages"]
        assert all(line[k] for k in ("commit", "date", "machine", "cores", "threads", "python"))
    assert "add" in capsys.readouterr().out


def test_a_file_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    path = tmp_path / "kept.csv"
    report.write_csv([{"a": 1 / 3}], ["a"], path)
    assert path.read_text() == "a\n0.333333\n"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_csv([{"a": 2}], ["a"], path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.csv"]
    assert path.read_text() == "a\n0.333333\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_2(capsys):
    assert program.main(["gpu"]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_an_unknown_case_is_named(capsys):
    with pytest.raises(SystemExit) as exit:
        program.main(["--only", "nonsense"])
    assert exit.value.code == 2
    assert "got nonsense" in capsys.readouterr().err


def test_the_program_runs_as_a_module():
    command = [sys.executable, "-m", "benchmarks", "--list"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(CASES)


def test_commit_is_a_hash_that_knows_of_changes():
    assert machine.commit() == "unknown" or 12 <= len(machine.commit()) <= 18
    assert machine.folder_name("cpu").replace("-", "").isalnum()


def test_photographs_repeat_and_do_not_depend_on_their_number():
    few, many = photographs(3, 32), photographs(20, 32)
    assert many.shape == (20, 3, 32, 32)
    assert many.dtype == torch.uint8
    assert torch.equal(many[:3], few)
    assert torch.equal(many[16:], many[:4])
    assert len({picture.numpy().tobytes() for picture in many[:16]}) == 16


def test_image_a_thread_keeps_order_and_the_number_of_threads():
    x, threads = torch.arange(8.0).view(8, 1), torch.get_num_threads()
    seen = []

    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return a - b

    assert torch.equal(image_a_thread(run, x, 3 * x), -2 * x)
    assert set(seen) == {1}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("filters", ["OpenCVFilters", "SciPyFilters"])
def test_peers_compute_what_the_reference_does(filters):
    pytest.importorskip("cv2")
    from benchmarks.cases import inpaint as cases
    from benchmarks.peers import inpaint as peers

    images = photographs(2, 32)
    init = cases.square(images)
    exact = cases.reference(images.double() / 255, 5)
    published = partial(peers.published, iterations=5)
    assert torch.equal(image_a_thread(published, images, init), exact)
    climb = [
        peers.climb(x, m, getattr(peers, filters), 5, False)
        for x, m in zip(images.numpy(), init[:, 0].numpy(), strict=True)
    ]
    assert torch.equal(torch.from_numpy(np.stack(climb))[:, None], exact)


@pytest.mark.parametrize("filters", ["OpenCVFilters", "SciPyFilters"])
def test_peers_have_the_gradient_of_the_reference_at_the_boundary(filters):
    pytest.importorskip("cv2")
    from benchmarks.peers import inpaint as peers
    from fastseg.ops.inpaint import _reference

    # Small: far from a layer, single precision leaves little of T − σD.
    x = photographs(1, 19)[0, :, :17].double() / 127.5 - 1
    mask = torch.zeros(17, 19, dtype=torch.bool)
    mask[5:11, 0:12] = True
    exact = _reference.gradient(x[None], mask[None, None], 0.001, 5.0, 11, 2).flatten()
    at = np.flatnonzero(_reference.boundary(mask[None, None]).numpy())
    climb = peers.Climb(getattr(peers, filters), x.float().numpy())
    found = climb.gradient(mask.numpy().view(np.uint8), at)
    assert np.linalg.norm(found - exact[at].numpy()) <= 1e-4 * exact[at].norm()


def test_quality_reads_pictures_and_masks_and_leaves_void_out(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "ecssd" / folder).mkdir(parents=True)
    for i in range(3):
        truth = np.zeros((150, 200), np.uint8)
        truth[40:100, 60:140] = 1
        truth[:, 100] = quality.VOID
        pixels = np.where(truth[..., None] == 1, 200, 60) + rng.integers(0, 20, (150, 200, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"ecssd/images/{i}.png")
        Image.fromarray(truth).save(tmp_path / f"ecssd/masks/{i}.png")
    pictures = quality.load(tmp_path / "ecssd", "masks", 2)
    assert pictures.images.shape == (2, 3, 128, 128)
    assert pictures.void.any()
    assert not (pictures.void & pictures.truth).any()
    line = quality.score("ecssd", "truth", pictures.truth | pictures.void, pictures)
    assert line["pictures"] == 2
    assert line["iou given"] == line["accuracy oracle"] == 100
    flipped = quality.score("ecssd", "flipped", ~pictures.truth, pictures)
    assert (flipped["iou given"], flipped["iou oracle"]) == (0, 100)


def test_quality_without_pictures_says_where_it_looked(tmp_path, capsys):
    assert quality.main(["--data", str(tmp_path)]) == 2
    assert f"{tmp_path} holds none of flowers17" in capsys.readouterr().err


def test_share_of_the_variance_within_segments():
    features = torch.tensor([[[0.0], [4.0]], [[2.0], [4.0]]])  # means 1 and 4: 0.5 and 2.25
    assert cuts.within(features) == pytest.approx(0.5 / 2.75)


def test_cuts_of_pictures(tmp_path, monkeypatch, capsys):
    images, truth = cuts.fruits("test", 2)
    halves = cuts.CUTS["the sky in halves, apple, the others"](images, truth)
    assert (halves[truth == 1] == 2).all()
    assert (halves[truth >= 2] == 3).all()
    assert set(halves[truth == 0].tolist()) == {0, 1}
    assert cuts.CUTS["four quarters"](images, truth)[0, ::63, ::63].tolist() == [[0, 1], [2, 3]]
    monkeypatch.setattr(cuts, "CUTS", {"the truth": cuts.CUTS["the truth"]})
    cuts.main(["--steps", "1", "2", "--pictures", "8", "--out", str(tmp_path)])
    with (tmp_path / "cuts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == 2 * ["given"] + 2 * ["withheld"]
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert all(0 <= float(row["within"]) <= 1 for row in rows)
