# `make demo` and `make test` set everything up by themselves; PYTHON picks the interpreter.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/.tools
WORKERS ?= 2
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: setup demo test lint bench clean

setup: $(TOOLS)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[all]'
	@touch $@

$(TOOLS): $(READY)
	$(INSTALL) '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/litereason demo

test: $(TOOLS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

lint: $(TOOLS)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

bench: $(TOOLS)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv runs build dist
