PYTHON ?= python3
VENV ?= .venv
# Folders or files that `make demo` segments beside scikit-image's samples.
IMAGES ?=
# Tests that `make sanitize` runs.
TESTS ?= tests

BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard csrc/*.h csrc/*.cpp)

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
	rm -f fastseg/_native*.so
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[test,lint,bench,train]'
	@$(BIN)/python -c 'import fastseg._native' || echo "It did not build: fastseg runs on its reference."
	touch $@

test: venv
	$(BIN)/python -m pytest -n auto

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

# In a copy of the tree, so that the ordinary extension stays. Python is not instrumented, so the
# sanitizer's runtime has to be there before it, and libstdc++ with it, whose exceptions it watches.
# What Python and torch still hold at exit is not the extension's, so leaks are not looked for.
# GPU kernels stay out: they have sanitizers of their own in tests/gpu/test_cuda*.py.
sanitize: venv
	rm -rf build/sanitize && mkdir -p build/sanitize
	cp -r $(filter-out build demo dist,$(wildcard *)) build/sanitize
	cd build/sanitize && rm -f fastseg/_native*.so && \
	    FASTSEG_SANITIZE=address,undefined $(abspath $(BIN))/python setup.py -q build_ext --inplace && \
	    grep -q __asan_init fastseg/_native*.so
	cd build/sanitize && ASAN_OPTIONS=detect_leaks=0 TEST_BACKENDS=native \
	    LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	    $(abspath $(BIN))/python -m pytest --capture=sys --hypothesis-profile=few \
	    --ignore=tests/gpu $(TESTS)

wheel: venv
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) build dist demo *.egg-info fastseg/*.so
