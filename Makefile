# Every target sets itself up from nothing: Python 3.11 or newer is all it needs (and uv, where it is there, is used).
# The tools run in .venv; `make` makes it, mends it, and leaves it alone where nothing has changed.

.DEFAULT_GOAL := help
.PHONY: help demo test coverage torture check bench bench-full docs pins clean

SHELL := /bin/sh
BIN := .venv/bin
ARGS ?=

# Where it is set, every process that a test starts compiles the whole package anew, and every worker all tests.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## Make the example's videos with the simulator, into demo/: no key, no money
	@scripts/setup.sh run
	$(BIN)/kling-async run examples/manifest.csv --out demo --simulate $(ARGS)
	@echo
	@echo "The videos are in demo/videos, what is known of them in demo/metadata.jsonl. Run it again: nothing is left to do."
	@echo "Next: export AIMLAPI_API_KEY=... and '$(BIN)/kling-async run examples/manifest.csv --out videos --dry-run';"
	@echo "docs/tutorial/first-video.md goes on from here."

HANG := -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true # a test that hangs shows where, and fails

SPREAD := -n auto --maxprocesses 8 --dist loadgroup --max-worker-restart 0 # all cores; ARGS="-n0 --pdb": one process

test: ## Run the tests (ARGS="-k name" narrows them)
	@scripts/setup.sh dev
	$(BIN)/python -m pytest $(HANG) $(SPREAD) $(ARGS)

coverage: ## Run the tests and tell their coverage: more than twice the time
	@scripts/setup.sh dev
	$(BIN)/python -m pytest --cov --cov-report=term $(HANG) $(SPREAD) $(ARGS)

ROUNDS ?= 100
SEEDS ?= 10000
torture: ## Kill the program again and again, fill its disk, simulate 10,000 jobs: an hour (ROUNDS=9, SEED=7, SEEDS=500)
	@scripts/setup.sh dev
	TORTURE_ROUNDS=$(ROUNDS) TORTURE_SEED=$${SEED:-$$(date +%s)} $(BIN)/python -m pytest $(ARGS) tests/torture \
		tests/simulation/test_outage.py tests/flow/test_batch.py
	$(BIN)/python -m tests.simulation 0 $(SEEDS)

check: lint format types floors tree ## Judge the code without running it (-k: go on after a failure)

lint: tools
	$(BIN)/python -m ruff check --output-format concise .

format: tools
	$(BIN)/python -m ruff format --check .

types: tools
	$(BIN)/python -m mypy

floors: tools
	$(BIN)/lint-imports --no-cache

tree: tools
	$(BIN)/python scripts/check_tree.py

.PHONY: lint format types floors tree tools
tools:
	@scripts/setup.sh dev

HOST := nginx-light curl openssl # what benchmarks/download.py is held against

bench: ## Run every benchmark in small: a quarter of an hour (ARGS="polls" runs those whose names contain it)
	@scripts/setup.sh dev
	@scripts/packages.sh $(HOST)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-full: ## Run them at the size of the figures in docs/benchmarks.md: an hour and more (ARGS as above)
	@scripts/setup.sh dev
	@scripts/packages.sh $(HOST)
	@$(BIN)/python -m benchmarks --full $(ARGS)

docs: ## Build the documentation, strictly, into site/
	@scripts/setup.sh docs
	@if $(BIN)/zensical build --clean --strict; then code=0; else code=1; fi; rm -rf .cache; exit $$code

pins: ## Pin the newest development and documentation tools (needs uv)
	uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-header --no-emit-index-url \
		--group dev --extra video --extra progress --output-file requirements/dev.txt pyproject.toml
	uv pip compile --quiet --universal --upgrade --python-version 3.11 --no-header --no-emit-index-url \
		--constraint requirements/dev.txt --group docs --output-file requirements/docs.txt

clean: ## Remove what the other targets made, .venv apart
	rm -rf .bench demo site build dist htmlcov .coverage .coverage.* .cache .hypothesis .import_linter_cache .make \
		.mypy_cache .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name .git -prune -o -type d -name __pycache__ -exec rm -rf {} +
