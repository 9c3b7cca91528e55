# Two commands do everything: `make demo` and `make test`. They need only Python 3.11 or newer and a package index.
# CI runs `make check`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Options for pytest: make test PYTEST_ARGS="-k drain -x"; -n 0 runs all tests in one process
PYTEST_ARGS ?=

.PHONY: help demo test docs docs-serve changelog notebooks storm conformance check lint types imports coverage clean

help:
	@echo "make demo    serve a small shop with its own traffic, on port 8000"
	@echo "make test    run all tests"
	@echo "make docs    build the site into site/; make docs-serve serves it on port 8001 and follows your changes"
	@echo "make notebooks    open the lessons of notebooks/ in JupyterLab"
	@echo "make storm   test 10,000 random cancellations of subrequests"
	@echo "make changelog    show the next part of CHANGELOG.md; VERSION=1.2 writes it, and removes the newsfragments"
	@echo "make check   run all that CI runs: lint, types, imports, tests with coverage"
	@echo "make kernels    run the notebook tests on each supported ipykernel: KERNELS='6.31.0 7.3.0'"
	@echo "make conformance    run CPython's own tests inside hooked workers, on asyncio and trio"
	@echo "make soak    run good and hostile clients for ten minutes; the server's memory, descriptors and tasks must not grow"
	@echo "make clean   remove the environment and all caches"
	@echo "PYTHON=python3.12 make ...   use another Python for the environment"

demo: $(VENV)/.installed
	@$(BIN)/coserver demo || test $$? = 130

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

storm: $(VENV)/.installed-dev
	COSERVER_CANCELLATIONS=10000 $(BIN)/python -m pytest -q tests/upstream -k random_cancellations

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve -a 127.0.0.1:8001

notebooks: $(VENV)/.installed-dev
	$(BIN)/jupyter lab notebooks

changelog: $(VENV)/.installed-dev
	@$(BIN)/python -m pip install -qq --group news
	$(BIN)/towncrier build $(if $(VERSION),--version $(VERSION),--draft --version next)

# Each kernel has an environment of its own. `make test` runs with the newest.
KERNELS ?= 6.31.0 7.3.0
kernels: $(VENV)/.installed-dev
	@for kernel in $(KERNELS); do \
	  $(PYTHON) -m venv $(VENV)/kernels/$$kernel && $(VENV)/kernels/$$kernel/bin/pip install -qq -e . \
	    "ipykernel==$$kernel" anywidget cloudpickle psutil pytest pytest-cov pytest-timeout pytest-xdist hypothesis && echo "ipykernel $$kernel" \
	    && $(VENV)/kernels/$$kernel/bin/python -m pytest -q -n 0 tests/notebook || exit 1; \
	done

check: lint types imports coverage

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

coverage:
	$(MAKE) test PYTEST_ARGS="--cov $(PYTEST_ARGS)"

soak: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.soak $(SOAK_ARGS)

conformance: $(VENV)/.installed-dev
	$(BIN)/python -m tests.cpython conformance --compare --quiet --jobs 3 --use network --backend asyncio --backend trio

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov site dist build

# The environment is made once, and again when pyproject.toml changes. --group needs pip 25.1.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "coserver needs Python 3.11 or newer, this is " \
	  + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) \
	  || { echo "no venv could be made; on Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "making the environment in $(VENV): a minute the first time"
	@$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install -qq -e ".[fast,trio,dev]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install -qq --group test --group lint
	@touch $@
