# Everything a fresh machine needs is Python 3.11+ and make; `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help demo test check format full cards readers reliability bench wheel clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /: /'

$(VENV)/core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

$(VENV)/full: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --editable . --group dev --group full
	@touch $@

demo: $(VENV)/core ## draw a small root, then build, mix, export and load it
	@rm -rf demo
	$(BIN)/vision-ift demo --out demo

test: $(VENV)/dev ## run the tests
	$(BIN)/python -m pytest -n 2 -q

check: $(VENV)/dev ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev ## rewrite the files in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

full: $(VENV)/full ## install what the tests of the extras need too (torch, transformers, trl)

cards: $(VENV)/core ## write cards/ from builders, recipes and claims
	$(BIN)/python -m vision_ift._cards cards

readers: $(VENV)/dev ## run the real readers over exports (several gigabytes of packages)
	$(BIN)/python tests/readers/prove.py --venvs readers-venvs

reliability: $(VENV)/full ## try every promise all the way and write RELIABILITY.md (about half an hour)
	$(BIN)/python -m tests.reliability.run

bench: $(VENV)/dev ## measure against the peers (about half an hour)
	$(BIN)/python bench/run.py

wheel: $(VENV)/dev ## build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove what the targets made
	rm -rf $(VENV) readers-venvs demo dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
