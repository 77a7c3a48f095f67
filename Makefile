# Everything a newcomer or a machine needs, one word each; `make help` lists them.
# The environment lives in .venv and is built again when pyproject.toml changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# Byte code is made when a module is first imported: compiling all of torch beforehand takes longer than the rest.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile

# The version the tests were last run with; a CPU wheel is taken where pip can see one. Another source:
#   make demo TORCH_ARGS="--find-links FOLDER_OF_WHEELS"
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
PYTEST_ARGS ?=
BENCHMARK_ARGS ?=
SOAK_ARGS ?=
LOOKS_ARGS ?=

.PHONY: help demo test napari check format docs screenshots looks soak benchmark wheel clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 22

demo: $(VENV)/.demo  ## enhance a real image without a window; writes out/demo
	$(BIN)/cellenhance demo --out out/demo

test: $(VENV)/.dev  ## run the tests, under a virtual display where there is none
	@scripts/system_packages.sh qt display
	@scripts/with_display.sh $(BIN)/python -m pytest $(PYTEST_ARGS)

napari: $(VENV)/.all  ## open napari with a sample image and the dock
	@scripts/system_packages.sh qt
	@$(BIN)/python scripts/open_napari.py

check: $(VENV)/.dev  ## linters, types, the rules of the house, the plugin manifest
	@scripts/system_packages.sh qt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	QT_QPA_PLATFORM=offscreen $(BIN)/npe2 validate --imports napari-cellenhance
	$(BIN)/validate-pyproject pyproject.toml

format: $(VENV)/.dev  ## format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## build the documentation site into docs/_build/html; warnings are errors
	@rm -rf docs/_build docs/api
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

screenshots: $(VENV)/.dev  ## draw the pictures of the documentation again
	@scripts/system_packages.sh qt display
	@scripts/with_display.sh $(BIN)/python scripts/screenshots.py

looks: $(VENV)/.dev  ## open every dock in both themes; tells what is cut off; LOOKS_ARGS="--font 16" for large letters
	@scripts/system_packages.sh qt display
	@scripts/with_display.sh $(BIN)/python scripts/look_at_docks.py --out out/docks $(LOOKS_ARGS)

soak: $(VENV)/.dev  ## use the docks 200 times at random, with interruptions; SOAK_ARGS="--help" tells more
	@scripts/system_packages.sh qt display
	@scripts/with_display.sh $(BIN)/python scripts/soak.py $(SOAK_ARGS)

benchmark: $(VENV)/.dev  ## time our path against the published one; BENCHMARK_ARGS="--help" tells more
	$(BIN)/python benchmarks/enhance.py $(BENCHMARK_ARGS)

wheel: $(VENV)/.dev  ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist out docs/_build docs/api docs/models .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# ---------------------------------------------------------------- the environment

$(BIN)/python:
	@scripts/make_venv.sh $(VENV)

$(VENV)/.torch: | $(BIN)/python
	@echo "Installing $(TORCH) into $(VENV) (once; up to some minutes) …"
	@$(PIP) $(TORCH_ARGS) "$(TORCH)" || { \
		echo "$(TORCH) cannot be had for this Python or platform; taking the newest torch instead."; \
		$(PIP) $(TORCH_ARGS) "torch>=2.4"; }
	@touch $@

# Headless and slim: no Qt.
$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "Installing napari-cellenhance into $(VENV) …"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.all: $(VENV)/.torch pyproject.toml
	@echo "Installing napari-cellenhance with napari's window into $(VENV) …"
	@$(PIP) --editable ".[all]"
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "Installing napari-cellenhance with napari's window and the test tools into $(VENV) …"
	@$(PIP) --editable ".[all,dev]"
	@touch $@ $(VENV)/.all $(VENV)/.demo

$(VENV)/.docs: $(VENV)/.dev
	@echo "Installing what builds the documentation into $(VENV) …"
	@$(PIP) --editable ".[docs]"
	@touch $@
