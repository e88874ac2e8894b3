# `make demo` and `make test` do all of their own set-up: they need Python 3.11 or newer, pip and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
THEME ?= a quiet evening by the sea
OUT ?= output

.PHONY: demo test test-full lint types unit full clean

demo: $(VENV)/.demo
	$(BIN)/kinograph run prompt_to_video --set "theme=$(THEME)" --out "$(OUT)"

test: lint types unit

test-full: lint types unit full

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m "not full"

full: $(VENV)/.test
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m full

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@ $(VENV)/.demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
