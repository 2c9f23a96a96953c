# Every target sets itself up: `make demo` and `make test` need Python 3.11 (or newer) and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# torch comes first, so that another build of it can be chosen, for instance
# make demo TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
DEMO_DIR ?= quicksilver-demo
JOBS ?= 2
EXTRAS ?= test

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
# The package as it is installed, with the workflows inside: for tools that read imports.
LAYOUT := build/layout
INSTALLED_DOCS := $(VENV)/.installed-docs
# The peers to compare with need older libraries: an environment of their own.
VENV_BENCHMARK := $(VENV)-benchmark
INSTALLED_BENCHMARK := $(VENV_BENCHMARK)/.installed
# So does smriprep, which needs a newer Python and brings the newest niworkflows and Nipype.
VENV_HOSTS := $(VENV)-hosts
PYTHON_HOSTS ?= $(shell command -v python3.13 || command -v python3.12)

.PHONY: help install demo test hosts lint docs benchmark clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       register two brains and draw the result in $(DEMO_DIR)"
	@echo "make test       run the tests"
	@echo "make hosts      run the tests inside smriprep, on Python 3.12 or newer"
	@echo "make lint       check formatting, style and types"
	@echo "make docs       build the documentation in docs/_build/html"
	@echo "make benchmark  measure accuracy and speed"
	@echo "make clean      remove what these targets made"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): setup.cfg pyproject.toml | $(BIN)/python
	$(PIP) install --upgrade "pip>=25"
	$(PIP) install $(TORCH)
	$(PIP) install --editable ".[$(EXTRAS)]"
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	$(PIP) install --editable ".[docs]"
	@touch $@

$(INSTALLED_BENCHMARK): setup.cfg pyproject.toml
	$(MAKE) VENV=$(VENV_BENCHMARK) EXTRAS=benchmark install

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/quicksilver demo --output-dir $(DEMO_DIR)
	@echo "Pictures of the registration:"
	@find $(DEMO_DIR) -name '*.png' -o -name '*.svg' | sort

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS)

hosts:
	$(MAKE) VENV=$(VENV_HOSTS) PYTHON=$(PYTHON_HOSTS) EXTRAS=test,hosts install
	$(VENV_HOSTS)/bin/python -m pytest tests/workflows tests/preprocessing/test_templates.py \
		tests/cohort tests/cli/test_cohort.py tests/examples

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf $(LAYOUT) && mkdir -p $(LAYOUT)
	cp -r nipype_quicksilver $(LAYOUT) && cp -r workflows $(LAYOUT)/nipype_quicksilver
	cd $(LAYOUT) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache
	cd $(LAYOUT) && $(abspath $(BIN))/lint-imports $(CURDIR)/pyproject.toml

docs: $(INSTALLED_DOCS)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

benchmark: $(INSTALLED_BENCHMARK)
	$(VENV_BENCHMARK)/bin/python -m benchmarks

clean:
	rm -rf $(VENV) $(VENV_BENCHMARK) $(VENV_HOSTS) $(DEMO_DIR) build docs/_build docs/_graphs docs/api
