# make test: set up from a fresh clone, run the suite.   make demo: the same, then the whole pipeline and a report.
PYTHON ?= python3
# Processes of the test suite.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup test test-cluster demo docs lint

setup: $(READY)

# The lock pins names, versions and hashes; the marker file is newer than the lock once all of it is in.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

test: setup
	$(BIN)/python -m pytest -n $(JOBS)

# The DAG on a real SLURM cluster of one node, started on loopback; installs Debian's packages if need be.
test-cluster: setup
	@command -v /usr/sbin/slurmctld >/dev/null && command -v /usr/sbin/munged >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			slurmctld slurmd slurm-client munge; }
	EIGENSHAPE_CLUSTER=1 $(BIN)/python -m pytest tests/cluster -m cluster

demo: setup
	$(BIN)/snakemake --cores all demo

# The site, in build/site: a broken link or a public name without a docstring is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile pipeline/rules
	$(BIN)/snakemake --lint

# Rewrite the lock after a change of dependencies in pyproject.toml.
.PHONY: lock
lock:
	$(BIN)/python -m uv pip compile pyproject.toml --all-extras --generate-hashes --universal \
		--python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
		--output-file requirements.lock
	{ sed -n '/^#/p' requirements.txt; sed -n 's/ *\\$$//; /^[a-z].*==/p' requirements.lock; } > requirements.tmp
	mv requirements.tmp requirements.txt
