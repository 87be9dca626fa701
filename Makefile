# Each target sets up what it needs in .venv with pip alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.PHONY: help setup setup-dev demo sweep-demo test test-slow check format bench bench-smoke docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(STAMP)-dev: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(STAMP)  ## install Yonder into .venv

setup-dev: $(STAMP)-dev  ## ... with what tests and checks need

demo: setup  ## run the demo recipe on the CPU (minutes), then see runs/demo/report.html
	$(BIN)/yonder run demo

sweep-demo: setup  ## the demo's weights over 3 seeds on the CPU (half an hour or more); goes on where it was
	$(BIN)/yonder sweep sweep-demo

test: setup-dev  ## fast tests (under 15 minutes)
	$(BIN)/python -m pytest -m 'not slow' --timeout 300

test-slow: setup-dev  ## real servers, browser, several processes (under 60 minutes)
	@command -v chromium >/dev/null || ./tools/install_browser.sh
	$(BIN)/python tools/install_peers.py
	$(BIN)/python -m pytest -m slow --timeout 1800

check: setup-dev  ## format, lint, types, architecture, fast tests
	$(BIN)/ruff format --check src tests tools benchmarks examples
	$(BIN)/ruff check src tests tools benchmarks examples
	$(BIN)/pyright
	$(BIN)/python -m pytest -m 'not slow' --timeout 300

format: setup-dev  ## format and sort imports
	$(BIN)/ruff format src tests tools benchmarks examples
	$(BIN)/ruff check --fix src tests tools benchmarks examples

bench: setup-dev  ## time a step and its parts beside other ways (an hour, on a machine that does nothing else)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python tools/install_peers.py trl vllm
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/trl_step.py
	$(BIN)/python benchmarks/trl_step.py 5 4 bfloat16
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/rollouts.py 5 16 8 64
	$(BIN)/python benchmarks/update.py 5 8
	$(BIN)/python benchmarks/update.py 5 3
	$(BIN)/python benchmarks/judge.py 24
	$(BIN)/python benchmarks/programs.py
	$(BIN)/python benchmarks/ppo_memory.py
	$(BIN)/python benchmarks/growth.py

bench-smoke: setup-dev  ## a few minutes: counts and ratios beside the stored ones; fails where one is worse by 15 %
	$(BIN)/python benchmarks/smoke.py

docs: $(STAMP)  ## build the documentation into site/
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove what the targets made (not runs/)
	rm -rf $(VENV) .servers build dist site .pytest_cache .ruff_cache
