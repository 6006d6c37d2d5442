# One place for every command. Bare `make` lists them.
#   PYTHON=python3.12     the Python that a new environment is made with (default python3)
#   VENV=path             the environment to use; one that exists keeps the PyTorch that it holds
#   EFFATTN_TORCH=cpu     or cuda: the build of PyTorch to install, whatever nvidia-smi says
VENV ?= .venv
BIN := $(VENV)/bin
CHAPTER ?=
TOPIC ?=
PART ?=
WITH ?=
CAPTION ?=
KERNEL ?= attention
PORT ?= 8000
PAGES := _build/html
export PYTHON

.DEFAULT_GOAL := help
.SECONDARY:
.PHONY: help book test lab notebooks bench send runs colab print teach offline serve site new inspect lint clean named

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## */\t/' | expand -t 12

book: $(VENV)/.installed-book  ## install, build the pages, print the address to open
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter-book build book --config _config.yml --path-output . -W -n --keep-going
	@$(BIN)/python book/_ext/built.py $(PAGES)

test: $(VENV)/.installed-test lint  ## install, and prove all that CI proves
	@PYTHONPATH=tests $(BIN)/python tests/support/skips.py
	EFFATTN_STATIC=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lab: $(VENV)/.installed-lab  ## JupyterLab on the chapters
	$(BIN)/jupyter lab --notebook-dir book

notebooks: $(VENV)/.installed-lab  ## execute, pair and store the chapters (CHAPTER=word for some)
	$(BIN)/python book/_ext/notebooks.py $(CHAPTER)

bench: $(VENV)/.installed-bench  ## time kernels and CPU forms against peers, store book/measurements/<topic>/*.json
	@set -e; for driver in $(sort $(wildcard book/measurements/*/bench*.py)); do $(BIN)/python $$driver; done

send: $(VENV)/.installed-bench  ## check what make bench recorded here, and pack it into one zip for sending
	$(BIN)/python -m effattn_core.sending

runs: $(VENV)/.installed-lab  ## train what is too long for a chapter, store book/measurements/<topic>/*.json
	@set -e; for driver in $(sort $(wildcard book/measurements/*/run*.py)); do $(BIN)/python $$driver; done

colab: $(VENV)/.installed-lab  ## the chapters with a first cell that installs, for Colab (_build/colab)
	$(BIN)/python book/_ext/colab.py _build/colab

teach: $(VENV)/.installed-lab  ## the chapters without solutions, for a class (_build/teach)
	$(BIN)/python book/_ext/teaching.py _build/teach

print: $(VENV)/.installed-test  ## the built pages as one PDF, by Chromium (after make book)
	$(BIN)/python book/_ext/printed.py $(PAGES)

site: $(VENV)/.installed-book  ## what is published: the built pages, beside the editions in _build/releases (after make book)
	$(BIN)/python book/_ext/editions.py $(PAGES) _build/releases _build/site

offline: $(VENV)/.installed-book  ## the built pages as a zip that opens without a network (after make book)
	$(BIN)/python book/_ext/offline.py $(PAGES)

serve: $(VENV)/.installed-book  ## the built pages at http://localhost:8000, where kernels run on them (PORT=…; after make book)
	$(BIN)/python book/_ext/lab_serve.py $(PAGES) $(PORT)

new:  ## the rooms of a new topic (TOPIC=name PART=4-sparse, WITH="kernel run bench", CAPTION="of a new part")
	@$(or $(PYTHON),python3) .ci/new.py "$(TOPIC)" "$(PART)" --with "$(WITH)" --caption "$(CAPTION)"

inspect: $(VENV)/.installed-lab  ## what the compiler makes of a topic's kernels (KERNEL=attention)
	$(BIN)/python -m kernels.inspect $(KERNEL)

lint: $(VENV)/.installed-test  ## style of the code, and the direction of its imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@if command -v npx >/dev/null; then npx --yes eslint@9.39.1 book/_static || exit 1; \
	else echo "skipped: the book's JavaScript is not linted, because node is not installed"; fi

clean:  ## remove what the commands made, and nothing else
	rm -rf $(VENV) _build .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache book/_static/vendor *.egg-info

# A Python that is named by hand is looked at in any case: .ci/install says where it is not that of the environment.
$(VENV)/.installed-%: pyproject.toml constraints.txt .ci/install $(if $(PYTHON),named)
	.ci/install $(VENV) $*
	@touch $@
