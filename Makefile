# The two commands of the README are `make demo` and `make test`; both build .venv by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check bench test-all clean
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dompbus needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[dev,perf]'
	@touch $@

demo: $(STAMP) ## replay a market through the bus into the ledger and check the books
	$(BIN)/dompbus demo trading

test: $(STAMP) ## every test (about 4 minutes on 2 cores)
	$(BIN)/python -m pytest tests

check: $(STAMP) ## lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(STAMP) ## the perf harness, every work, beside its peers
	$(BIN)/python -m perf all --check

test-all: ## the tests on Python 3.11, 3.12 and 3.13 (those that are installed)
	@for v in 3.11 3.12 3.13; do \
	  command -v python$$v >/dev/null && python$$v -c '' 2>/dev/null || { echo "python$$v: not here"; continue; }; \
	  echo "== python$$v"; $(MAKE) --no-print-directory test PYTHON=python$$v VENV=.venv-$$v || exit 1; done

clean: ## remove environments and build products
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
