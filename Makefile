# Three commands: `make run` (a folder of images in, boxes out), `make web` (a page for it) and `make test`.
# They need git, make and Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
IMAGES ?= examples/images
OUT ?= out
ROUNDS ?= 20
MODEL ?= dbnet-resnet18
RUN ?= runs/$(MODEL)
SBOM ?= build/sbom
LOCKS ?= build local fleet
BIN = $(VENV)/bin
# -P: a pip.py of the checkout's root, where somebody's archive was unpacked, is none of ours.
PIP = $(BIN)/python -P -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

# What runs in production, and what builds a release, comes from lock files: every download must be the one that was
# looked at (its SHA-256).
LOCKED = -P -m pip --disable-pip-version-check --quiet install --require-hashes --requirement requirements/build.txt

# Where the shell forbids bytecode, as in many images, each of a thousand processes of a test run would compile our
# modules again, and each of pytest's all tests.
export PYTHONDONTWRITEBYTECODE =

# torch's idle threads spin by default, which takes the cores from the other tests: a run of the training recipe beside
# three others took 15 s of CPU, and takes 8 s.
quick quick-tests test serial: export OMP_WAIT_POLICY = PASSIVE

# A file's tests stay in one process, which makes its fixtures once. JOBS=0 runs all tests in one. `make test` has two
# processes more than cores: there are always tests that wait for a worker to start or for a clock (four more were 4 %
# faster, and failed tests with clocks on a busy machine). A process that dies ends the run, which names its test: for
# the one that took its place pytest-xdist 3.8 waited for ever (its issue 1378).
JOBS ?= $(shell nproc)
PARALLEL = --dist=loadfile --max-worker-restart=0 --no-loadscope-reorder --numprocesses
# CI measures coverage too, with COV=--cov: about 75 s of CPU more.
COV ?=

.PHONY: run web quick quick-tests test serial lint style types bandit audit sbom lock release bench faults train .data-given clean

run: $(VENV)/.run-ready ## detect text in IMAGES, results in OUT
	$(BIN)/ocr-producer run "$(IMAGES)" -o "$(OUT)" --overlays

web: $(VENV)/.run-ready ## a page on http://127.0.0.1:8600: drop pictures, see boxes
	$(BIN)/ocr-producer serve --local

quick: $(VENV)/.test-ready style ## lint, types, and the tests without server, training or an eighth of a second: under a minute on 2 cores
	$(MAKE) --no-print-directory --jobs=2 types quick-tests

quick-tests: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -m quick $(PARALLEL)=$(JOBS) --durations=5

test: $(VENV)/.test-ready style ## everything CI runs; what measures rates comes last, and leaves a core to mypy
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -q -m "not serial" $(PARALLEL)=$$(($(JOBS) ? $(JOBS) + 2 : 0)) --durations=15 $(COV) $(COV:--cov=--cov-report=)
	$(MAKE) --no-print-directory --jobs=2 types serial

# Only the files that have such tests: importing all of them takes ten seconds. tests/conftest.py looks after this search.
serial: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -m serial $$(grep -rl --include='test_*.py' 'mark\.serial' tests) --durations=15 $(COV) $(COV:--cov=--cov-append --cov-report=term:skip-covered)

lint: style types

style: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# `nice`: beside it `make test` measures rates. Without its cache it takes 25 s.
types: $(VENV)/.test-ready
	nice $(BIN)/mypy

bandit: $(VENV)/.test-ready ## unsafe Python, in seconds; what is passed over and why: pyproject.toml
	$(PIP) bandit==1.9.4
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive detector producer worker

audit: bandit ## known holes in what requirements/ installs; asks PyPI's advisories, and fails where it cannot
	$(PIP) pip-audit==2.10.1
	for lock in $(LOCKS) release; do $(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements/$$lock.txt || exit 1; done

sbom: $(VENV)/.test-ready ## what a release ships, in SBOM/*.cdx.json (CycloneDX 1.6): one a lock file, valid or an error
	$(PIP) cyclonedx-bom==7.5.0
	mkdir -p "$(SBOM)"
	for lock in $(LOCKS); do $(BIN)/cyclonedx-py requirements requirements/$$lock.txt --pyproject pyproject.toml --mc-type application \
	  --spec-version 1.6 --output-reproducible --validate --output-file "$(SBOM)/ocrfleet-$$lock.cdx.json" || exit 1; done

lock: $(VENV)/bin/python ## requirements/*.txt anew from pyproject.toml and constraints.txt, with hashes
	$(PIP) uv
	for lock in 'build requirements/build.in' 'release requirements/release.in' 'local pyproject.toml --extra local --extra web' 'fleet pyproject.toml --extra worker --extra web --extra flower --extra s3'; do \
	  set -- $$lock; name=$$1; shift; $(BIN)/uv pip compile --no-config --quiet --generate-hashes --universal --python-version 3.11 --no-header \
	    --constraint constraints.txt "$$@" --output-file requirements/$$name.txt || exit 1; done

# In an environment of its own: what `make test` installs by version alone is not there to be run.
release: ## sdist and wheel in dist/, for an index: URL=https://... of the repository, REF=tag
	@test -n "$(URL)" || { echo 'make release URL=https://github.com/OWNER/ocrfleet [REF=v0.1.0]'; exit 2; }
	rm -rf build/release
	$(PYTHON) -P -m venv build/release
	build/release/bin/python $(LOCKED) --requirement requirements/release.txt
	build/release/bin/python -P deploy/release.py "$(URL)" $(REF)

bench: $(VENV)/.test-ready ## tables of speed and memory; takes minutes, wants a quiet machine
	failed=; for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
	test -z "$$failed" || { echo "not measured, or not good:$$failed"; exit 1; }

faults: $(VENV)/.test-ready ## every kind of fault ROUNDS times over real jobs, and a table; about half a minute a trial, a night for 20
	for round in 1 2 3; do OCRFLEET_FAULTS_STOP_S=45 $(BIN)/python -m pytest -q tests/faults/test_broker_restarts.py || exit 1; done
	OCRFLEET_FAULTS_STOP_S=45 $(BIN)/python -m tests.faults --rounds $(ROUNDS)

train: .data-given $(VENV)/.test-ready ## the shipped weights from the folders in DATA; goes on where it stopped
	$(BIN)/python -P -m detector.training.line_level "$(DATA)" "$(RUN)" --model "$(MODEL)" $(if $(TEACHER),--teacher "$(TEACHER)") $(FLAGS)

.data-given:
	@test -n "$(DATA)" || { echo 'make train DATA=folder [MODEL=dbnet-resnet18] [RUN=folder] [TEACHER=file.onnx] [FLAGS="--steps 8000"]'; exit 2; }

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ocrfleet needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -P -m venv $(VENV)

# setuptools runs them.
NO_SETUP = @for file in setup.py setup.cfg; do test ! -e $$file || { echo "$$file is none of ocrfleet's, and would be run: remove it"; exit 2; }; done

# Without torch: what a worker machine and the page need.
$(VENV)/.run-ready: $(VENV)/bin/python pyproject.toml requirements/build.txt requirements/local.txt
	$(NO_SETUP)
	$(BIN)/python $(LOCKED) --requirement requirements/local.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# After `.run-ready`: pip compares no hash of what it finds installed, so that `make run` would take what tests brought.
# By its path: where an extra cannot be met, pip looks a name up on the index, builds what it finds there and installs it
# in the place of the checkout.
$(VENV)/.test-ready: $(VENV)/.run-ready pyproject.toml constraints.txt
	$(NO_SETUP)
	$(PIP) torch==2.13.0
	$(PIP) --no-build-isolation --editable '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
