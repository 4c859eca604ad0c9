# The environments of `make test-clients`: one for each group of clients whose pins agree with each other. uv makes them,
# as it links the files of its cache where pip copies them: all five take half a minute, and seconds the next time.
CLIENTS := .clients
GROUPS := $(basename $(notdir $(wildcard clients/requirements/*.txt)))
UV := $(BIN)/uv --quiet
NODE := clients/node/node_modules/.package-lock.json

.PHONY: test-clients clients-pins

# The official clients of the APIs that the server speaks, and the requests of programs that can't be installed here.
test-clients: .venv/.installed-clients $(GROUPS:%=$(CLIENTS)/%/.installed)
	$(BIN)/pytest clients $(ARGS)

ifneq ($(shell command -v npm 2>/dev/null),)
test-clients: $(NODE)
endif

# New versions of the clients: clients/requirements/*.txt, out of the names in *.in.
clients-pins: .venv/.installed-clients
	for group in clients/requirements/*.in; do \
	  $(UV) pip compile --upgrade --no-annotate --no-header --python-version 3.11 $$group -o $${group%.in}.txt || exit 1; done

.venv/.installed-clients: .venv/.installed-dev
	$(BIN)/pip install --quiet --constraint constraints.txt --group clients
	@touch $@

# The pins name every package, so nothing is resolved.
$(CLIENTS)/%/.installed: clients/requirements/%.txt | .venv/.installed-clients
	$(UV) venv --clear --python $(abspath $(BIN))/python $(@D)
	VIRTUAL_ENV=$(@D) $(UV) pip install --no-deps --requirement $<
	@touch $@

$(NODE): clients/node/package-lock.json
	cd clients/node && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@
