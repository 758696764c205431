# `make demo` and `make test` do all the set-up they need; it is repeated only when its inputs change.
BIN := .venv/bin
READY := .venv/ready
export PYTHON

.PHONY: help demo test quick lint format clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY)  ## all nine steps on synthetic votes and tiny models; ends with the report's path
	@$(BIN)/tiebreak demo

test: $(READY)  ## every test (choose some: make test ARGS="tests/data -x")
	@$(BIN)/python -m pytest $(ARGS)

quick: $(READY)  ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the environment and the caches; runs stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh
	@touch $@
