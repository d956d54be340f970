# Every target first sets up what it needs in .venv; `make demo` and `make test` are all that a newcomer needs.
VENV := .venv
PY := $(VENV)/bin/python
QUICK ?=
PYTEST_WORKERS ?= 2

.PHONY: setup demo test test-all test-gpu test-minimum fuzz lint format docs clean

setup: $(VENV)/.installed-all

# The demo needs no developer's tools: a first look is quicker without them, unless they are there.
DEMO := $(firstword $(wildcard $(VENV)/.installed-all) $(VENV)/.installed-plot)
$(VENV)/.installed-plot: EXTRAS := plot
$(VENV)/.installed-all: EXTRAS := plot,docs,test,dev

# pip runs again only when the requirements change; an existing .venv is kept and completed.
$(VENV)/.installed-%: pyproject.toml .ci/constraints.txt
	@echo "Installing skxc[$(EXTRAS)] into $(VENV); the first time this takes minutes."
	@test -x $(PY) || "$$(PYTHON='$(PYTHON)' bash .ci/find-python)" -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check \
		--constraint .ci/constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

demo: $(DEMO)
	$(PY) -m skxc demo $(if $(QUICK),--quick)

# One thread per test process: two processes already fill two cores.
test: setup
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PY) -m pytest -m "not slow" -n $(PYTEST_WORKERS) -q

test-all: setup
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PY) -m pytest -n $(PYTEST_WORKERS) -q

# What only a GPU can show, with figures; without one everything is skipped.
test-gpu: setup
	HF_HUB_OFFLINE=1 $(PY) -m pytest -m gpu tests/gpu -q -rs -s

# The lowest declared versions, in a virtual environment of their own.
MINIMUM := .venv-minimum
$(MINIMUM)/.installed: pyproject.toml .ci/constraints-minimum.txt
	@test -x $(MINIMUM)/bin/python || "$$(PYTHON='$(PYTHON)' bash .ci/find-python)" -m venv $(MINIMUM)
	@$(MINIMUM)/bin/python -m pip install --quiet --disable-pip-version-check \
		--only-binary numpy,scipy,scikit-learn,numba,faiss-cpu,matplotlib \
		--constraint .ci/constraints-minimum.txt --editable ".[plot,test]"
	@touch $@

test-minimum: $(MINIMUM)/.installed
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(MINIMUM)/bin/python -m pytest \
		-m "not slow" -n $(PYTEST_WORKERS) -q

# Inputs that a generator makes up: N of them, each in a process that may die.
N ?= 1000
SEED ?= 0
fuzz: setup
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PY) -m tests.fuzz --tries $(N) --seed $(SEED)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: setup
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf build docs/_build docs/api/generated demo-output skxc.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache
