"""benchmarks.labels: slic's labels against scikit-image's."""

import numpy as np
import pytest

from benchmarks import labels

pytest.importorskip("fastseg._native", exc_type=ImportError)


def test_labels_are_compared_with_and_without_their_names(tmp_path, capsys):
    actual = np.array([[0, 0, 1, 1], [2, 2, 2, 2]])
    assert labels.differing(actual, actual) == (0, 0)
    assert labels.differing(actual, actual[::-1]) == (1, 0.25)
    assert labels.differing(actual, 2 - actual) == (0.75, 0)
    joined = np.minimum(actual, 1)
    assert labels.differing(actual, joined) == labels.differing(joined, actual) == (0.5, 0.25)
    assert labels.main(["--data", str(tmp_path)]) == 2
    assert f"{tmp_path} holds none of ecssd" in capsys.readouterr().err


def test_a_table_of_pictures_of_the_sets(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "ecssd" / "images").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for i in range(3):
        Image.fromarray(noise[i:]).save(tmp_path / f"ecssd/images/{i}.png")
    run = ["--data", str(tmp_path), "--each", "2", "--longest", "40", "--out", str(tmp_path)]
    assert labels.main([*run, "--counts", "5", "30"]) == 0
    heads, *lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert heads.startswith("input,superpixels,pictures,labels differing,of the worst picture")
    assert [line.split(",")[1:3] for line in lines] == [["5", "6"], ["30", "6"]] * 3
    assert [line.split(",")[3] for line in lines[:2]] == ["0", "0"]
    assert "Lab float32" in capsys.readouterr().out
