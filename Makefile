PYTHON ?= python3
VENV ?= .venv
# Folders or files that `make demo` segments beside scikit-image's samples.
IMAGES ?=

BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard csrc/*.h csrc/*.cpp)
SANITIZED := build/sanitize

.PHONY: help venv test lint bench demo sanitize wheel clean

help:
	@echo "make demo      segment sample photographs (and IMAGES=folder) into demo/index.html"
	@echo "make test      run the test suite"
	@echo "make lint      ruff, mypy and clang-format"
	@echo "make bench     measure every operator against its peers on this CPU"
	@echo "make sanitize  run the tests on an AddressSanitizer and UBSan build of the extension"
	@echo "make wheel     build dist/*.whl"
	@echo "make venv      only make $(VENV), with everything that the others need"
	@echo "make clean     remove what the others made"

venv: $(VENV)/.ready

$(VENV)/.ready: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools pybind11
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[test,lint,bench]'
	touch $@

test: venv
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $$(find csrc -type f)

bench: venv
	$(BIN)/python -m benchmarks cpu

demo: venv
	$(BIN)/fastseg demo -o demo $(IMAGES)
	@echo "Open $(CURDIR)/demo/index.html"

# The interpreter itself is not instrumented, so the sanitizer's runtime must be loaded before it.
# CPython and torch never free what they keep until exit, so leaks are not looked for.
sanitize: venv
	rm -rf $(SANITIZED)
	FASTSEG_SANITIZE=address,undefined $(BIN)/python setup.py -q \
	    build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	    PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib $(BIN)/pytest

wheel: venv
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist demo *.egg-info fastseg/*.so
