# Set-up, start, test and lint. Every target works on a fresh checkout; `PYTHON` names the interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.bench-installed

# How tests run beside each other, and which of them have a fuller form.
BESIDE := -n auto --maxprocesses 4 --dist worksteal
SOAKED := $(addprefix tests/,crash property simulation stress e2e/test_life.py service/test_openapi.py) \
  $(addprefix tests/http/,test_retry_after.py)
# More arguments for pytest, e.g. PYTEST_ARGS="-k sweeper".
PYTEST_ARGS ?=
# More arguments for the benchmarks, e.g. BENCH_ARGS=--quick or BENCH_ARGS="takes report".
BENCH_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test soak model coverage lint api bench simulation clean tools bench-tools

help:
	@echo "make run       serve the example API on 127.0.0.1:8000"
	@echo "make test      run the tests"
	@echo "make soak      the exhaustive forms: death at every opcode, long storms, floods and sequences"
	@echo "make model     have SPIN search the model of the lock protocol"
	@echo "make coverage  branch coverage of the pure modules and the table"
	@echo "make lint      ruff and mypy"
	@echo "make api       write docs/api.md from the code"
	@echo "make bench     measure everything, twenty minutes, into docs/performance.md; BENCH_ARGS=--quick tries it out"
	@echo "make simulation  hosts that share a limit, up to 1,000 of them, into docs/distributed.md"
	@echo "make clean     remove the environment, builds and caches"

run: $(INSTALLED)
	@exec $(BIN)/python -m service serve

# Status 5 is that of a run in which PYTEST_ARGS leaves no test.
test: $(INSTALLED) tools
	$(BIN)/python -m pytest -m "not alone" $(BESIDE) $(PYTEST_ARGS) || test $$? = 5
	$(BIN)/python -m pytest -m alone $(addprefix tests/,e2e stress) $(PYTEST_ARGS) || test $$? = 5

soak: export EVERY_OPCODE = 1
soak: export EXAMPLES = 5000
soak: export KILLS = 2000
soak: export FLOOD_KEYS = 5000000
soak: $(INSTALLED) tools
	$(BIN)/python -m pytest $(SOAKED) -m "not alone" $(BESIDE) --timeout=3600 $(PYTEST_ARGS) || test $$? = 5
	$(BIN)/python -m pytest $(SOAKED) -m alone --timeout=3600 $(PYTEST_ARGS) || test $$? = 5

model: $(INSTALLED) tools
	$(BIN)/python -m pytest tests/model -v $(PYTEST_ARGS)

coverage: $(INSTALLED)
	$(BIN)/python -m pytest tests/unit tests/property tests/contract tests/race tests/crash/test_store_order.py --cov --cov-report=term $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

api: $(INSTALLED)
	$(BIN)/python -m tests.architecture.api

bench: $(BENCH_INSTALLED) bench-tools
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

simulation: $(BENCH_INSTALLED)
	$(BIN)/python -m tests.simulation

clean:
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find shm_store service tests -type d -name __pycache__ -prune -exec rm -rf {} +

# A Debian without python3-venv makes an environment that has no pip, and its own pip can install one from outside.
# PIP_REQUIRE_VIRTUALENV: whatever goes wrong, nothing is installed outside the environment.
$(INSTALLED) $(BENCH_INSTALLED) tools: export PIP_REQUIRE_VIRTUALENV = 1
$(INSTALLED) $(BENCH_INSTALLED) tools: export PIP_DISABLE_PIP_VERSION_CHECK = 1
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is not Python 3.11 or newer: name one that is, e.g. make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -q -c constraints.txt hatchling
	@$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

# The packages that are compared, and what draws the plots. By the name of what is installed already: some come as source,
# and are built with whatever they need, apart from us.
$(BENCH_INSTALLED): $(INSTALLED)
	@echo "installing what is compared ..."
	@$(BIN)/python -m pip install -q -c constraints.txt 'shm-store[bench]'
	@touch $@

# Debian packages, named like the command that they bring, or PACKAGE/COMMAND. $(1): their names; $(2): what becomes of
# those that do without.
define debian
	@PATH="$$PATH:/usr/sbin"; \
	missing() { for tool in $(1); do command -v $${tool#*/} >/dev/null || echo $${tool%/*}; done; }; \
	test -n "$$(missing)" || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing" $$(missing) "..."; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$(missing); } \
	    >/dev/null 2>&1 || true; \
	fi; \
	test -z "$$(missing)" || echo "not installed:" $$(missing) "- $(2)" >&2
endef

# The load generator and the browser of tests/e2e, the model checker of tests/model with the compiler it needs, the second
# engine of tests/contract (its tools and its server are one program), a server that is compiled for the interpreter of
# the environment, and the rule checker of tests/infra. That one is taken out of its package, whose installation would
# start a server.
tools: $(INSTALLED)
	$(call debian,wrk spin gcc chromium,the tests that need them will be skipped)
	$(call debian,redis-tools/redis-check-rdb,tests will run on Valkey alone)
	@test -x $(BIN)/uwsgi || { echo "compiling uwsgi ..."; $(BIN)/python -m pip install -q -c constraints.txt uWSGI; } \
	  || echo "not installed: uwsgi - the tests that need it will be skipped" >&2
	@PATH="$$PATH:$(BIN)"; command -v promtool >/dev/null || { echo "fetching promtool ..."; cd $(VENV) \
	  && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } >/dev/null 2>&1 \
	  && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 -C bin ./usr/bin/promtool \
	  && rm prometheus_*.deb; } || echo "not installed: promtool - the tests that need it will be skipped" >&2

# The load generator, and the server that has a limiter of its own.
bench-tools:
	$(call debian,wrk nginx,what is measured with them will be left out)
