# Embedserve. `make serve` and `make test` need Python 3.11 or later, make and a package index, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help serve test test-clients lint types format docs bench evaluate clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

serve: $(VENV)/.installed  ## serve all-MiniLM-L6-v2 on 127.0.0.1:8080 (ARGS="--port 9000 MODEL" for more)
	@$(BIN)/embedserve serve $(ARGS)

test: $(VENV)/.installed-test  ## run the whole test suite (ARGS="-k chunking" for a part)
	@$(BIN)/python -m pytest $(ARGS)

test-clients: $(VENV)/.installed-test  ## every SDK against a real server; makes environments for them in .venv-clients
	@$(BIN)/python -m pytest -m heavy tests/clients $(ARGS)

lint: $(VENV)/.installed-test  ## style, and that imports go downward only
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(VENV)/.installed-test  ## mypy, strict
	@$(BIN)/mypy

format: $(VENV)/.installed-test  ## reformat the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: $(VENV)/.installed  ## write the README's table of settings anew
	@$(BIN)/python -m service.settings README.md

bench: $(VENV)/.installed  ## requests and texts per second, beside the raw runtime's
	@$(BIN)/python -m loadtest.bench $(ARGS)

evaluate: $(VENV)/.installed-evaluate  ## what finds passages of long documents, into docs/ (ARGS=--quick for a look)
	@$(BIN)/python -m loadtest.long_documents $(ARGS)

clean:  ## remove the virtual environment and what the tools left behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@echo "embedserve: making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 serve")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	@echo "embedserve: installing"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[cpu]' | grep -v '^Requirement already satisfied' || true
	@$(BIN)/python -c 'import service.cli, onnxruntime'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "embedserve: installing what the tests need"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test]'
	@touch $@

$(VENV)/.installed-evaluate: $(VENV)/.installed
	@echo "embedserve: installing the texts of the evaluation"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[cpu,evaluate]'
	@touch $@
