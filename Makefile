# Every target first sets up .venv (once); `make demo` and `make test` are all that a newcomer needs.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.skxc-installed
QUICK ?=
PYTEST_WORKERS ?= 2

.PHONY: setup demo test test-all lint format docs clean

setup: $(STAMP)

# pip runs again only when the requirements change; an existing .venv is kept and completed.
$(STAMP): pyproject.toml .ci/constraints.txt
	test -x $(BIN)/python || "$$(bash .ci/find-python)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint .ci/constraints.txt --editable ".[plot,docs,test,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/python -m skxc demo $(if $(QUICK),--quick)

# One thread per test process: two processes already fill two cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(PYTEST_WORKERS) -q

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf build docs/_build docs/api/generated .pytest_cache .mypy_cache .ruff_cache skxc.egg-info
