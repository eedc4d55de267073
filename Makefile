# `make demo` and `make test` set up a fresh machine by themselves: Python >= 3.11 is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test quick lint clean
help:
	@echo "make demo   run the main job on synthetic and real videos, about 4 minutes once installed"
	@echo "make test   every test but the gpu ones"
	@echo "make quick  the tests that are neither slow nor cluster"
	@echo "make lint   ruff and mypy"

install: $(STAMP)

# torch first and by exact version: a range would make pip look for a newer build, with gigabytes of CUDA packages
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("reelmill needs Python >= 3.11, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,demo]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m jobs.demo

# two at a time; waiting threads must not spin, or two tests' torch would starve each other. Files that start clusters go
# in their order, in which the long ones come first
test: $(STAMP)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not gpu and not cluster" -n 2 --dist worksteal --durations=15
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "cluster and not gpu" -n 2 --dist loadfile --no-loadscope-reorder --durations=15

quick: $(STAMP)
	$(BIN)/python -m pytest -m "not gpu and not slow and not cluster"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out build *.egg-info
