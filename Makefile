# Every target sets up what it needs. PYTHON chooses the interpreter of the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One more than cores: the end-to-end tests mostly wait for processes of their own.
PYTEST_WORKERS ?= 3
# Neighbours share a worker, and with it a server of Postgres and what a module has made.
SPREAD := -n $(PYTEST_WORKERS) --dist worksteal
# Tests start many processes, each of which would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=
# What takes minutes has a target of its own.
PROOFS := tests/crash tests/faults tests/webhook/test_crash.py
AS_USERS := tests/e2e tests/browser
WRITERS := tests/writers
# What the site's pages are, and link to.
SITE_SOURCES := README.md CHANGELOG.md CONTRIBUTING.md LICENSE llms.txt docs examples skills

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test e2e faults mutants writers matrix docs dist lint types locations check bench bench-quick growth format clean reference screenshots

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Install the package and its tools into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' \
		|| { echo "Python 3.10 to 3.14 is needed; choose one with PYTHON=python3.12"; exit 1; }
	@echo "Installing the package and its tools into $(VENV): once, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Run the main job offline: simulator, Dagster's daemon, 66 prompts, tables
	@$(BIN)/python -m demo

ui: $(STAMP) ## Open Dagster's UI on the history of the demo
	@$(BIN)/python -m demo.ui

test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest $(SPREAD) -q $(addprefix --ignore=,$(PROOFS) $(AS_USERS) $(WRITERS))

e2e: $(STAMP) ## Use Dagster's daemon, a fresh project and the UI (with chromium) as people do
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -q $(AS_USERS)

faults: $(STAMP) ## Crash at every named moment, and survive the table of faults
	$(BIN)/python -m pytest $(SPREAD) -q $(PROOFS)

mutants: $(STAMP) ## Break the promise on purpose and expect the tests to notice
	$(BIN)/python -m tests.mutants

writers: $(STAMP) ## Read 300 Parquet files of six writers, which it installs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[writers]'
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) -q $(WRITERS) tests/tables/test_frames.py

matrix: ## Run the quick tests on each Python that is here; DAGSTER=1.13.28 takes that release
	$(PYTHON) -m tests.matrix $(if $(DAGSTER),--dagster $(DAGSTER))

lint: $(STAMP) ## Check style and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## Check types
	$(BIN)/mypy

locations: $(STAMP) ## Load the code location as Dagster does
	MYNTH_API_KEY=unused $(BIN)/dagster definitions validate -w workspace.yaml
	MYNTH_API_KEY=unused $(BIN)/dg check defs

check: lint types locations docs test e2e faults mutants ## Everything that CI checks

docs: $(STAMP) ## Build the site of the pages into .site/html, with every link checked
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	rm -rf .site && mkdir -p .site/source
	cp -R $(SITE_SOURCES) .site/source
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(STAMP) ## Build wheel and sdist into dist, check them, and run the README's example with each
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	rm -rf dist && $(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m tests.dist dist

screenshots: $(STAMP) ## Take the pages' screenshots from the running UI (needs chromium)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	BROWSER_ARTEFACTS=$(CURDIR)/.demo/artefacts $(BIN)/python -m pytest tests/browser -q
	$(BIN)/python -m tests.browser.shrink .demo/artefacts docs/images

reference: $(STAMP) ## Write docs/reference.md from the code
	$(BIN)/python -m tests.docs.reference

bench: $(STAMP) ## Measure speed beside its peers into benchmarks/RESULTS.md, and print that of downloads
	$(BIN)/python -m benchmarks
	$(BIN)/python benchmarks/downloads.py

bench-quick: $(STAMP) ## The same in a few minutes, only printed
	$(BIN)/python -m benchmarks --quick

growth: $(STAMP) ## Measure tables of up to ten million rows, into the same RESULTS.md
	$(BIN)/python -m benchmarks --growth

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and the demo's files
	rm -rf $(VENV) .demo .matrix .site dist
