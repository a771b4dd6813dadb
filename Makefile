# Every target sets up its own environment in .venv, and again only after setup.cfg or pyproject.toml changed.
PYTHON ?= python3
BIN := .venv/bin

SEED ?= 1
SOAK_CALLS ?= 200000
SOAK_TIMES ?= 20
SOAK_CUTS ?= 2000
SOAK_REQUESTS ?= 2000000
SOAK_SECONDS ?= 1800

.PHONY: run test lint bench soak clean

run: .venv/run.stamp
	$(BIN)/dialer run

test: .venv/dev.stamp
	$(BIN)/pytest -n auto --dist worksteal

lint: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/mypy

bench: .venv/run.stamp
	$(BIN)/python bench/webhooks.py

# Hours, as it stands; each part also runs by itself and for as long as wanted: docs/reliability.md.
soak: .venv/dev.stamp
	$(BIN)/dialer simulate --calls $(SOAK_CALLS) --seed $(SEED) --faults all --processes 2
	$(BIN)/pytest tests/test_mutants.py -q
	$(BIN)/python -m soak crashes --times $(SOAK_TIMES) --seed $(SEED)
	$(BIN)/python -m soak power --cuts $(SOAK_CUTS) --seed $(SEED)
	$(BIN)/python -m soak requests --count $(SOAK_REQUESTS) --seed $(SEED)
	$(BIN)/python -m soak kills --seconds $(SOAK_SECONDS) --rate 300 --seed $(SEED)
	$(BIN)/python -m soak plugins --seed $(SEED)
	$(BIN)/python -m soak steady --seconds $(SOAK_SECONDS) --rate 300 --seed $(SEED)

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
