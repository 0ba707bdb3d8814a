# `make demo` and `make test` create .venv, install into it and run.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
JOBS   ?= 2
MINUTES ?= 8
SEED   ?= 0

.PHONY: demo test cov faults lint docs install clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed  ## run the whole pipeline on the toy data set; ends with a table and a picture
	$(BIN)/python bench/demo.py $(DEMO)

test: $(VENV)/.installed  ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

cov: $(VENV)/.installed  ## run the test suite and measure the coverage of ssn_feat (lines and branches) in build/coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term --cov-report=html:build/coverage

faults: $(VENV)/.installed  ## inject faults for MINUTES from SEED; see docs/fault-tolerance.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --minutes $(MINUTES) --seed $(SEED)

lint: $(VENV)/.installed  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## build the site in build/site; every warning is an error
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo build/site/index.html

install: $(VENV)/.installed

# A bare server has no libGL, which opencv-python links to; opencv-python-headless is the same library without windows.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; call: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	$(BIN)/python -c 'import cv2' 2>/dev/null || { \
		$(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
		$(BIN)/python -m pip install --quiet opencv-python-headless; }
	touch $@

clean:  ## remove everything that these commands made
	rm -rf $(VENV) $(DEMO) build *.egg-info
