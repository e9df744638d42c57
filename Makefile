# `make test`, `make demo` and `make ui` need Python 3.11 or newer and pip alone; each makes the environments it uses.

PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check

VENV := .venv
VENV_OLD := .venv-2.11
AIRFLOW := apache-airflow==3.3.*
AIRFLOW_OLD := apache-airflow==2.11.*

# What imports Airflow is tested in both versions; the rest (api, emulator) once.
AIRFLOW_TESTS := $(wildcard $(addprefix tests/,unit/test_package.py e2e $(addprefix integration/,hooks operators sensors triggers test_waiting*.py)))

.PHONY: test lint pytest pytest-old package chaos demo ui clean
.DEFAULT_GOAL := test

## Everything that is checked, in Airflow 3.3 and 2.11, side by side: much of the time goes by in waiting.
test: lint package
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target pytest-old pytest

lint: $(VENV)/.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

pytest: $(VENV)/.stamp
	$(VENV)/bin/python -m pytest $(PYTEST_FLAGS)

pytest-old: $(VENV_OLD)/.stamp
	$(VENV_OLD)/bin/python -m pytest $(PYTEST_FLAGS) $(AIRFLOW_TESTS)

## The distribution: built, checked, and holding the package alone.
package: $(VENV)/.stamp
	rm -rf dist
	$(VENV)/bin/python -m build --outdir dist . > build.log 2>&1 || { cat build.log; exit 1; }
	rm -f build.log
	$(VENV)/bin/twine check --strict dist/*
	$(VENV)/bin/python dev/check_wheel.py dist

## Tasks killed at every point, by people and by accidents, in a real Airflow: billed once, nothing left. Prints the table.
chaos: $(VENV)/.stamp $(VENV_OLD)/.stamp
	$(VENV)/bin/python -m tests.e2e.chaos --results .chaos/3.3.json
	$(VENV_OLD)/bin/python -m tests.e2e.chaos --results .chaos/2.11.json
	$(VENV)/bin/python -m tests.e2e.chaos.report .chaos docs/launching.md

## The quickstart DAG in a real Airflow, against the emulator.
demo: $(VENV)/.stamp
	$(VENV)/bin/python -m dev.demo

## Airflow's web interface and the emulator, to click through; Ctrl-C stops all.
ui: $(VENV)/.stamp
	$(VENV)/bin/python -m dev.ui

$(VENV)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --upgrade pip
	$(VENV)/bin/python -m pip install $(PIP_FLAGS) --editable '.[emulator]' --group test --group lint --group release '$(AIRFLOW)'
	touch $@

$(VENV_OLD)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV_OLD)
	$(VENV_OLD)/bin/python -m pip install $(PIP_FLAGS) --upgrade pip
	$(VENV_OLD)/bin/python -m pip install $(PIP_FLAGS) --editable '.[emulator]' --group test '$(AIRFLOW_OLD)'
	touch $@

clean:
	rm -rf $(VENV) $(VENV_OLD) dist build.log .chaos .demo .ui
