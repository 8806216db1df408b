# For a machine with Python, a C++ compiler and make, without ROS 2. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup setup-all build demo test check lint clean clean-runs

# The first interpreter that the ROS 2 wheels support; `make setup PYTHON=python3.12` chooses another for .venv.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11 python3.10; do \
	"$$p" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$p" && break; done)
CHOSEN := $(if $(filter command environment,$(firstword $(origin PYTHON))),--python $(PYTHON))
# Extras beyond the demo: data, learning, models, words, console, dev, or all. TORCH_INDEX: a package index to take torch from.
EXTRAS ?=
TORCH_INDEX ?=
INDEX := $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))
SETUP := "$(PYTHON)" scripts/setup_environment.py $(CHOSEN) $(INDEX) --extras
BIN := .venv/bin
PYTEST_ARGS ?=
DEMO_ARGS ?=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## make .venv, messages included (seconds when nothing has changed); EXTRAS="data learning" adds, EXTRAS=all adds all
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10 to 3.13 found; name one: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(SETUP) $(EXTRAS)

setup-all: EXTRAS := all
setup-all: setup

build:  ## the same, and build the messages again
	@$(SETUP) $(EXTRAS) --rebuild

demo: setup  ## run the demo (DEMO_ARGS="--help" lists its options)
	@$(BIN)/vla-ros demo $(DEMO_ARGS)

# First the tests without real time, on all processors: one process per file, or each would train the same networks, and
# in this order, because the last files are short. The others run real processes on real clocks, one after the other; a
# busy machine may starve one, so a failure there is retried twice. Code 5: nothing was selected.
test: setup-all  ## run the tests (PYTEST_ARGS="-k safety" selects)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder \
		test/sim test/unit $(PYTEST_ARGS); unit=$$?; \
	$(BIN)/python -m pytest --reruns 2 test/launch test/nodes $(PYTEST_ARGS); rest=$$?; \
	for code in $$unit $$rest; do [ $$code -eq 0 ] || [ $$code -eq 5 ] || exit $$code; done; [ $$unit$$rest != 55 ]

lint: setup-all  ## ruff, and mypy (strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The rooms that differ from CHECK_BASE, and the tests of the whole: vla_ros/ROOM is tested by test/unit/ROOM.
CHECK_BASE ?= HEAD
CHANGED = $(shell { git diff --name-only $(CHECK_BASE); git ls-files --others --exclude-standard; } | \
	sed -nE 's,^(vla_ros|test/unit)/([a-z_]+)/.*,test/unit/\2,p' | sort -u)
check: lint  ## lint, types, and the unit tests of the rooms that changed since CHECK_BASE (HEAD)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder \
		test/unit/test_import_law.py test/unit/test_packaging.py test/unit/test_public_names.py $(wildcard $(CHANGED)) $(PYTEST_ARGS)

clean:  ## remove .venv and everything that was generated
	rm -rf .venv build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-runs:  ## remove runs/: films, logs, data sets, checkpoints and reports that the commands wrote there
	rm -rf runs
