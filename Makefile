# Needs make, Python 3.11 or later, and a package index that pip can reach; sets up the rest in .venv.
# Another Python: make clean && make test PYTHON=python3.12

PYTHON ?=
CANDIDATES = $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3)

BIN := .venv/bin
READY := .venv/.set-up
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n auto --maxprocesses 8
# Tests made of processes wait for some of their time.
WAITING := -n $$((1 + $$(getconf _NPROCESSORS_ONLN))) --maxprocesses 9 --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo measure docs docs-check bench-start bench-quota bench-backfill bench-schedule bench-million soak kills simulate mutants test test-slow test-long test-all test-events test-airflow airflow check format setup wheel constraints clean

help: ## List all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## Run a complete example on this machine, no keys needed
	@$(BIN)/beamer-segment demo

test: $(READY) ## Run the fast tests, in parallel
	@$(PYTEST) -m 'not slow' $(PARALLEL)

test-slow: $(READY) ## Run the slow tests only, without those that take minutes each
	@$(PYTEST) -m 'slow and not long' $(WAITING)

test-long: $(READY) ## Run the slow tests that take minutes each
	@$(PYTEST) -m long $(WAITING)

test-all: test test-slow test-long ## Run every test

docs: $(READY) ## Build the documentation as a site into build/site, with MkDocs in its own venv under build/
	@sh -ec "$$BUILD_DOCS"

docs-check: $(READY) ## Compare README, docs/ and examples with the code (part of `make test`; UPDATE_DOCS=1 rewrites the generated parts)
	@$(PYTEST) -q tests/docs

test-events: $(READY) ## Check events and the Public API with what Segment publishes (Node.js 18 or later)
	@sh -ec "$$CHECK_EVENTS"

test-airflow: airflow ## Run the DAGs in a real Airflow 3, which is installed under build/ once
	@TEST_AIRFLOW_VENV="$(AIRFLOW)" $(PYTEST) -q tests/airflow

measure: ## Print the size of the connector, and how its modules depend on each other
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,python3) -m tests.measure

check: $(READY) ## Lint, check formatting, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports

bench-start: $(READY) ## Time a sync with nothing to do, and --help, as whole processes
	@$(BIN)/python -m tests.benchmarks.start

bench-quota: $(READY) ## Measure how late rows are on a month's quota, month after month; takes hours
	@mkdir -p build && $(BIN)/python -m tests.benchmarks.quota --seeds 20 --save build/quota.jsonl --resume

bench-backfill: $(READY) ## Measure a backfill over sockets: the rate limit, the machine, memory, kills; takes ten minutes
	@$(BIN)/python -m tests.benchmarks.backfill

bench-schedule: $(READY) ## 200 connections on one PostgreSQL: how late each is synced; 40 minutes
	@$(BIN)/python -m tests.soak.many && $(BIN)/python -m tests.soak.many --processes 2

soak: $(READY) ## Run `schedule` for an hour that simulates sixty hours, with faults
	@$(BIN)/python -m tests.soak --hours 60 --minutes 60

bench-million: $(READY) ## Sync with a million seen rows and with ten thousand: time, memory, bytes per row
	@$(BIN)/python -m tests.benchmarks.million

kills: $(READY) ## Kill a sync at a hundred moments, and print where it was
	@$(BIN)/python -m tests.stress.kills

SEEDS ?= 5000
simulate: $(READY) ## Run SEEDS=5000 simulated lives, with crashes and overlapping runs
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

mutants: $(READY) ## Break the connector on purpose, and list how the simulation notices
	@$(BIN)/python -m tests.simulation.mutants

format: $(READY) ## Format the code and apply the linter's fixes
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

setup: $(READY) ## Set up .venv (the other targets do this automatically)
	@:

wheel: $(READY) ## Build the wheel into dist/
	@$(BIN)/python -m pip wheel -qq --no-deps --no-build-isolation --wheel-dir dist . && sha256sum dist/*.whl

constraints: $(READY) ## Resolve the newest versions and write constraints.txt
	@sh -ec "$$RESOLVE"

clean: ## Remove .venv, caches and built files
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Airflow ------------------------------------------------------------------------------------------

# A venv of its own: Airflow's packages and the connector's never share one.
AIRFLOW := $(CURDIR)/build/airflow-venv

airflow: $(READY)
	@sh -ec "$$SET_UP_AIRFLOW"

define SET_UP_AIRFLOW
wanted=$$(pwd -P; $(BIN)/python --version; cksum < tests/airflow/constraints.txt)
[ "$$(cat $(AIRFLOW)/.set-up 2>/dev/null)" != "$$wanted" ] || exit 0
echo "make: setting up Airflow in build/airflow-venv, once; this takes some minutes." >&2
$(BIN)/python -m venv --clear $(AIRFLOW)
$(AIRFLOW)/bin/python -m pip install -qq -c tests/airflow/constraints.txt apache-airflow || {
    echo "make: Airflow could not be installed; see pip's message above." >&2
    exit 1
}
echo "$$wanted" > $(AIRFLOW)/.set-up
endef
export SET_UP_AIRFLOW

# --- documentation ------------------------------------------------------------------------------------

DOCS := $(CURDIR)/build/docs-venv

define BUILD_DOCS
wanted=$$(pwd -P; $(BIN)/python --version; cat pyproject.toml constraints.txt | cksum)
if [ "$$(cat $(DOCS)/.set-up 2>/dev/null)" != "$$wanted" ]; then
    echo "make: setting up MkDocs in build/docs-venv, once; this takes a minute." >&2
    $(BIN)/python -m venv --clear $(DOCS)
    $(BIN)/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print("\n".join(extras["optional-dependencies"]["docs"]))' > $(DOCS)/requirements.txt
    $(DOCS)/bin/python -m pip install -qq -c constraints.txt -r $(DOCS)/requirements.txt || {
        echo "make: MkDocs could not be installed; see pip's message above." >&2
        exit 1
    }
    echo "$$wanted" > $(DOCS)/.set-up
fi
NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs --quiet build --strict
if grep -rlE '<(script|link|img)[^>]+(src|href)="?https?://' build/site --include=*.html; then
    echo "make: these pages load something from another host." >&2
    exit 1
fi
if grep -rl '```' build/site --include=*.html; then
    echo "make: these pages show the marks of a code block; is it indented too far?" >&2
    exit 1
fi
echo "The site is in build/site; open build/site/index.html."
endef
export BUILD_DOCS

# --- setting up ---------------------------------------------------------------------------------------

# A venv outlives neither its Python nor a move of the checkout: its scripts hold the old path.
ifneq "$(shell $(BIN)/python -c pass 2>/dev/null && cat $(READY) 2>/dev/null)" "$(CURDIR)"
.PHONY: $(READY)
endif

$(READY): pyproject.toml constraints.txt
	@sh -ec "$$SET_UP"

define SET_UP
say() { echo "make: $$*" >&2; }

usable() {
    [ ! -e .venv/.unfinished ] || return 1
    [ ! -e $(READY) ] || [ "$$(cat $(READY))" = "$$(pwd -P)" ] || return 1
    $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    old= bare=
    for python in $(CANDIDATES); do
        version=$$("$$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            old="$${old:+$$old, }$$python is Python $$version"
        elif ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then
            bare=$${bare:-$$python} bare_version=$${bare_version:-$${version%.*}}
        else
            return 0
        fi
    done
    if [ "$$bare" ]; then
        say "$$bare (Python $$bare_version) was found, but its venv or ensurepip module is missing."
        say "On Debian or Ubuntu, install them with: apt-get install python$$bare_version-venv"
    elif [ "$$old" ]; then
        say "Python 3.11 or later is needed; $$old."
        say "If a later one is installed under another name, run: make $(MAKECMDGOALS) PYTHON=python3.12"
    else
        say "No Python was found; looked for:" $(CANDIDATES)
        say "Install Python 3.11 or later, or run: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"
    fi
    return 1
}

if ! usable; then
    find_python || exit 1
    say "setting up .venv with Python $$version, once; this takes a minute or two."
    "$$python" -m venv --clear --without-pip .venv
    touch .venv/.unfinished
    $(BIN)/python -m ensurepip --default-pip >/dev/null
fi
touch .venv/.unfinished
rm -f $(READY)
$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,postgres]' || {
    say "The packages could not be installed; see pip's message above. pip must be able to reach a package"
    say "index (pip's own settings apply). The next make starts again."
    exit 1
}
pwd -P > .venv/.finished
rm -f .venv/.unfinished
mv .venv/.finished $(READY)
endef
export SET_UP

# --- events -------------------------------------------------------------------------------------------

# With EVENTS_INTO in the environment, `make test` leaves there what its tests saw, and it is checked, too.
EVENTS := $(if $(EVENTS_INTO),$(EVENTS_INTO),$(CURDIR)/build/events)

define CHECK_EVENTS
say() { echo "make: $$*" >&2; }
for program in node npm; do
    command -v $$program >/dev/null || {
        say "$$program was not found. test-events needs Node.js 18 or later with npm, for Segment's own validators;"
        say "no other target does. On Debian or Ubuntu: apt-get install nodejs npm"
        exit 1
    }
done
node -e 'process.exit(process.versions.node.split(".")[0] < 18 ? 1 : 0)' || {
    say "Node.js 18 or later is needed; this is $$(node --version)."
    exit 1
}
[ "$$EVENTS_INTO" ] || rm -rf "$(EVENTS)"
$(BIN)/python -m tests.events.export "$(EVENTS)"
EVENTS_INTO="$(EVENTS)" $(PYTEST) -q tests/events
$(BIN)/python -m tests.events.judging "$(EVENTS)"
npm ci --prefix tests/events/node --ignore-scripts --no-audit --no-fund --loglevel=error || {
    say "npm could not install the validators; see its message above. npm must be able to reach a registry."
    exit 1
}
node tests/events/node/answers.mjs "$(EVENTS)"
node tests/events/node/check.mjs "$(EVENTS)"
endef
export CHECK_EVENTS

define RESOLVE
$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "make: constraints.txt is resolved with Python 3.11, the oldest supported:" >&2
    echo "make: make clean && make constraints PYTHON=python3.11" >&2
    exit 1
}
scratch=$$(mktemp -d)
trap 'rm -rf "$$scratch"' EXIT
$(BIN)/python -m venv "$$scratch/venv"
"$$scratch/venv/bin/python" -m pip install -qq -e '.[dev,postgres]'
{
    sed -n '/^#/p' constraints.txt
    "$$scratch/venv/bin/python" -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+=='
} > "$$scratch/constraints.txt"
diff constraints.txt "$$scratch/constraints.txt" && echo "constraints.txt is up to date." || true
cat "$$scratch/constraints.txt" > constraints.txt
endef
export RESOLVE
