# Everything is installed into .venv, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install train test test-slow test-all lint docs clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv \
	  || { rm -rf .venv; echo "No virtual environment could be made; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	# First and by its exact version: a CPU build is found this way where there is one.
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,dmc,metaworld]'
	touch $@

# The main job: a Delta PPO agent learns to hop.
train: runs/quickstart/seed-0/result.json
	@echo "Trained: runs/quickstart/seed-0"

runs/quickstart/seed-0/result.json: | $(INSTALLED)
	$(BIN)/deltarl train quickstart --resume $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m "not slow"

# Tests that take longer; most are the rest of matrices of which `make test` runs a covering subset.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 -m slow

# All tests, including slow ones and those of EnvPool, which takes a few hundred megabytes.
test-all: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[envpool]'
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures, and the tables in README and docs, from the committed results.
docs: $(INSTALLED)
	$(BIN)/python docs/figures/delta_block.py
	$(BIN)/python docs/figures/comparison.py
	$(BIN)/python docs/tables.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
