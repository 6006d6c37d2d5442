# One place for every command. Bare `make` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help test lint clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

test: $(STAMP) lint  ## install, then prove everything that CI proves
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)  ## style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/lint-imports

clean:  ## remove what the commands made, and nothing else
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis *.egg-info
