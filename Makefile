# One place for every command. Bare `make` lists them.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHAPTER ?=
KERNEL ?= attention
PAGE := _build/html/index.html
# A CUDA build of PyTorch where there is an NVIDIA GPU, else the CPU build; EFFATTN_TORCH=cpu or cuda decides otherwise.
EFFATTN_TORCH ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)

.DEFAULT_GOAL := help
.PHONY: help book test lab notebooks bench inspect lint build clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

book: $(STAMP) build  ## install, build the pages, print the address to open
	@echo "the book is built; open  file://$(abspath $(PAGE))"

test: $(STAMP) lint  ## install, then prove everything that CI proves
	@$(BIN)/python tests/skips.py
	EFFATTN_STATIC=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

lab: $(STAMP)  ## JupyterLab on the chapters
	$(BIN)/jupyter lab --notebook-dir book

notebooks: $(STAMP)  ## execute, pair and store the chapters (CHAPTER=word for some)
	$(BIN)/python book/_ext/notebooks.py $(CHAPTER)

bench: $(STAMP)  ## time kernels and CPU forms against peers; writes book/measurements/*.json
	set -e; for driver in book/measurements/bench_*.py; do $(BIN)/python $$driver; done

inspect: $(STAMP)  ## what the compiler made of a kernel (KERNEL=attention)
	$(BIN)/python -m kernels.inspect $(KERNEL)

lint: $(STAMP)  ## style, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	@if command -v npx >/dev/null; then npx --yes eslint@9.39.1 book/_static || exit 1; \
	else echo "skipped: the book's JavaScript is not linted, because node is not installed"; fi

build: $(STAMP)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter-book build book --config _config.yml --path-output . -W -n --keep-going
	@test -s $(PAGE) || { echo "no page was built at $(PAGE)"; exit 1; }

clean:  ## remove what the commands made, and nothing else
	rm -rf $(VENV) _build .cache .pytest_cache .ruff_cache .hypothesis book/_static/vendor *.egg-info

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@if [ "$(EFFATTN_TORCH)" = cuda ]; then \
	  echo "PyTorch: the CUDA build, because nvidia-smi found a GPU (EFFATTN_TORCH=cpu for the other)"; \
	  grep -v -E '^(torch|triton)==' constraints.txt > $(VENV)/constraints.txt; \
	else \
	  echo "PyTorch: the CPU build, because nvidia-smi found no GPU (EFFATTN_TORCH=cuda for the other)"; \
	  cp constraints.txt $(VENV)/constraints.txt; \
	fi
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[test]'
	touch $@
