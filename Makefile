# Everything a newcomer needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
# Extra words for pip, for example: make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Extra words for pytest or a benchmark, for example: make test ARGS="-k unkd"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format type bench bench-scale clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv and install kdrec with what its tests need

$(STAMP): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"kdrec needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}. Name another one: make PYTHON=python3.12 ...") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c .ci/constraints.txt -e ".[dev]"
	@touch $@

demo: setup  ## Run the whole pipeline on the built-in data set and show the tables
	$(BIN)/kdrec run experiment=demo > /dev/null
	$(BIN)/kdrec distill experiment=demo method=unkd K=1 > /dev/null
	$(BIN)/kdrec distill experiment=demo method=unkd_random > /dev/null
	$(BIN)/kdrec report --dataset synthetic

test: setup lint type  ## Check everything: style, types and all tests
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-fast: setup  ## The tests that take seconds
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

lint: setup  ## Check style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup  ## Mend style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

type: setup  ## Check types
	$(BIN)/mypy

bench: setup  ## Time the hot routines beside their floors
	$(BIN)/python -m tests.benchmarks.bench $(ARGS)

bench-scale: setup  ## Time and memory from 1 to 20 million interactions (ten minutes, 8 GiB)
	$(BIN)/python tests/benchmarks/scale.py $(ARGS)

clean:  ## Remove .venv and what tools left; data/ and outputs/ stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
