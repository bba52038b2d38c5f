# Two commands: `make run` (a folder of images in, boxes out) and `make test`. They need git, make and Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
IMAGES ?= examples/images
OUT ?= out
MODEL ?= dbnet-resnet18
RUN ?= runs/$(MODEL)
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

# Tests that share an expensive fixture stay in one process (tests/conftest.py); JOBS=0 runs all in this one.
JOBS ?= auto
PARALLEL = --numprocesses=$(JOBS) --dist=loadgroup

.PHONY: run quick test lint bench train .data-given clean

run: $(VENV)/.run-ready ## detect text in IMAGES, results in OUT
	$(BIN)/ocr-producer run "$(IMAGES)" -o "$(OUT)" --overlays

quick: $(VENV)/.test-ready lint ## lint, types, and the tests without server, training or a second: under a minute on 2 cores
	$(BIN)/python -m pytest -q -m quick $(PARALLEL) --durations=5

test: $(VENV)/.test-ready lint ## everything CI runs; what measures memory or rates comes last, with the machine for itself
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -q -m "not serial" $(PARALLEL) --durations=15 --cov --cov-report=
	$(BIN)/python -m pytest -q -m serial --durations=15 --cov --cov-append --cov-report=term:skip-covered

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test-ready ## tables of speed and memory; takes minutes, wants a quiet machine
	failed=; for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
	test -z "$$failed" || { echo "not measured, or not good:$$failed"; exit 1; }

train: .data-given $(VENV)/.test-ready ## the shipped weights from the folders in DATA; goes on where it stopped
	$(BIN)/python -m detector.training.line_level "$(DATA)" "$(RUN)" --model "$(MODEL)" $(if $(TEACHER),--teacher "$(TEACHER)") $(FLAGS)

.data-given:
	@test -n "$(DATA)" || { echo 'make train DATA=folder [MODEL=dbnet-resnet18] [RUN=folder] [TEACHER=file.onnx] [FLAGS="--steps 8000"]'; exit 2; }

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ocrfleet needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# Without torch: what a worker machine needs.
$(VENV)/.run-ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[local]'
	@touch $@

$(VENV)/.test-ready: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[all]'
	@touch $@ $(VENV)/.run-ready

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
