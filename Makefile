# Every target sets up its own environment in .venv, and again only after setup.cfg or pyproject.toml changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint bench soak clean

run: .venv/run.stamp
	$(BIN)/dialer run

test: .venv/dev.stamp
	$(BIN)/pytest

lint: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/mypy

bench: .venv/run.stamp
	$(BIN)/python bench/webhooks.py

soak: .venv/run.stamp
	$(BIN)/dialer simulate --calls 100000 --seed 1 --faults none

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	touch $@

.venv/dev.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test,lint]'
	touch $@ .venv/run.stamp
