"""What README.md says holds."""

import re

import pytest

from benchmarks import readme

TEXT = (readme.ROOT / "README.md").read_text("utf-8")


def test_figures_are_those_of_the_results():
    assert readme.written(TEXT) == TEXT, "run `python -m benchmarks.readme`"


@pytest.mark.parametrize("path", ["README.md", "docs/data.md"])
def test_examples_run(path, tmp_path, monkeypatch):
    text = (readme.ROOT / path).read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert examples
    names: dict[str, object] = {}
    for example in examples:
        exec(example, names)


@pytest.mark.parametrize("path", re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))
def test_links_lead_somewhere(path):
    assert (readme.ROOT / path).exists()
