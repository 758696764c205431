# `make demo` and `make test` do all the set-up they need; it is repeated only when its inputs change.
BIN := .venv/bin
READY := .venv/ready
export PYTHON

# about a worker a core; tests/conftest.py says what comes first, and what goes to one worker
PYTEST := $(BIN)/python -m pytest -n auto --no-loadscope-reorder

# each is one of the kills of the thorough test beside it
KILLED_ONCE := tests/engine/test_kill_steps.py::test_a_step_that_is_killed_ends_the_same

SITE := build/site-tools
.PHONY: help demo test quick thorough all nightly golden docs lint format clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(READY)  ## all nine steps on synthetic votes and tiny models; ends with the report's path
	@$(BIN)/tiebreak demo

test: $(READY)  ## the tests (choose some: make test ARGS="tests/data -x")
	@$(PYTEST) -m "not thorough and not nightly" $(ARGS)

quick: $(READY)  ## those that take seconds
	@$(PYTEST) -m "not slow and not thorough and not nightly" $(ARGS)

thorough: $(READY)  ## those that take minutes: every task killed three times, a real Slurm
	@$(PYTEST) -m "thorough and not nightly" $(ARGS)

all: $(READY)  ## test and thorough at once: what both need is made once, and no step is killed twice
	@$(PYTEST) -m "not nightly" --deselect $(KILLED_ONCE) $(ARGS)

nightly: $(READY)  ## those that take tens of minutes: damaged files by the thousand, 200 kills; writes docs/nightly.md
	@$(BIN)/python tests/nightly.py -n auto --no-loadscope-reorder $(ARGS)

golden: $(READY)  ## renew what each step's output is tested against, unless a VERSION has to rise first
	@$(BIN)/python tests/golden.py

docs: $(SITE)/ready  ## the site, in build/site; a warning is an error
	@$(SITE)/bin/python docs/build.py
	@$(SITE)/bin/zensical build --strict --clean

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the environment and the caches; runs stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

$(SITE)/ready: docs/requirements.txt
	@$${PYTHON:-python3} -m venv $(SITE)
	@$(SITE)/bin/python -m pip install -qq --no-input --disable-pip-version-check -r docs/requirements.txt
	@touch $@

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh
	@touch $@
