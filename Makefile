# The first target that needs .venv makes it; a change of the locked versions makes it again.
VENV := .venv/.installed
BIN := .venv/bin
# .ci/run sets scripts/repeat_failed.py, which repeats failed tests
PYTEST ?= $(BIN)/python -m pytest
# three files of tests at a time: tests mostly wait
ABREAST := --numprocesses 3 --dist loadfile
MATRIX := $(addprefix tests/e2e/test_,kill_matrix.py kill_matrix_changing.py faults.py)
NEIGHBOURS := tests/e2e/test_neighbours.py
# nothing runs beside the matrix, since its figures go into docs/kill-matrix.md; .ci/run keeps no figures and overrides
# this. Nothing ever runs beside the neighbours, who take all of the machine.
MATRIX_ABREAST ?=
HOSTILE := tests/e2e/test_hostile.py
CGROUPS := tests/unit/isolation/test_cgroups.py tests/integration/test_isolation_cgroups.py \
	tests/integration/test_node_sandbox.py tests/integration/test_isolation_netfence.py
TESTS := tests/unit tests/contract tests/integration
E2E := tests/e2e $(patsubst %,--ignore=%,$(MATRIX) $(NEIGHBOURS) $(HOSTILE))

# minutes of faults, roll-outs and an upgrade under load; the suite without them has three losses of parts
CLUSTER_FAULTS := $(addprefix tests/kubernetes/test_pooled_,faults.py strict.py)

CLUSTER := tests/kubernetes/cluster/cluster
CLUSTER_NEEDS := go cc pkg-config openssl nft iptables conntrack ip unshare \
	/usr/include/seccomp.h /usr/lib/cni/bridge

.PHONY: help demo test newest e2e kill-matrix hostile cluster test-kubernetes test-kubernetes-quick cgroup2 lint bench bench-quick bench-kubernetes install lock clean
.DEFAULT_GOAL := help

help:
	@echo "Use"
	@echo "  make demo         start a platform, deploy a function, see it wake and sleep"
	@echo "  make install      .venv with rescoldo, what it needs and its tools, in the locked versions"
	@echo "Test"
	@echo "  make test         unit, contract and integration tests"
	@echo "  make e2e          tests against a whole platform"
	@echo "  make kill-matrix  kill each part under load, and other faults; writes docs/kill-matrix.md"
	@echo "  make hostile      attack a platform at both levels; writes docs/attacks.md"
	@echo "  make test-kubernetes  tests on a real Kubernetes, built (10 minutes the first time), brought up and taken down;"
	@echo "                    writes docs/kill-matrix.md"
	@echo "  make test-kubernetes-quick  the same without faults under load"
	@echo "  make cgroup2      limits in a virtual machine with cgroup v2 alone; needs qemu, slow without KVM"
	@echo "  make newest       unit tests with the newest versions that pyproject.toml allows, not the locked ones"
	@echo "Measure"
	@echo "  make bench        all figures and their bars; writes bench/results.json and docs/measurements.md"
	@echo "  make bench-quick  the same, shorter and rougher; writes bench/results.json alone"
	@echo "  make bench-kubernetes  figures on a real Kubernetes; writes bench/kubernetes.json and docs/measurements.md"
	@echo "Maintain"
	@echo "  make lint         ruff, mypy --strict, import-linter, the lock"
	@echo "  make lock         after a change of dependencies in pyproject.toml (scripts/lock --upgrade: newest versions)"
	@echo "  make clean        remove .venv, caches and build results"

$(VENV): requirements-dev.txt pyproject.toml scripts/install
	@scripts/install
	@touch $@

install: $(VENV)

demo: $(VENV)
	@$(BIN)/python scripts/demo.py

test: $(VENV)
	@$(PYTEST) $(ABREAST) $(TESTS)

kill-matrix: $(VENV)
	@$(PYTEST) $(NEIGHBOURS); first=$$?; $(PYTEST) $(MATRIX_ABREAST) $(MATRIX) && exit $$first
	@PYTHONPATH=src:tests $(BIN)/python -m matrix.report

e2e: $(VENV)
	@$(PYTEST) $(ABREAST) $(E2E)

hostile: $(VENV)
	@$(PYTEST) $(HOSTILE)
	@PYTHONPATH=src:tests $(BIN)/python -m hostile.report

# the cluster's programs are compiled once, in ~/.cache/rescoldo-kubernetes (tests/kubernetes/cluster/cluster)
cluster:
	@scripts/need $(CLUSTER_NEEDS)
	@$(CLUSTER) build

test-kubernetes: $(VENV) cluster
	@$(PYTEST) tests/kubernetes
	@PYTHONPATH=src:tests $(BIN)/python -m matrix.clustered

test-kubernetes-quick: $(VENV) cluster
	@$(PYTEST) tests/kubernetes $(CLUSTER_FAULTS:%=--ignore=%)

# not in .ci/run, since it is slow without KVM; docs/behaviour.md has the last run
cgroup2: $(VENV)
	@scripts/cgroup2 $(PYTEST) --timeout 1200 $(CGROUPS)

newest: $(VENV)
	@scripts/newest

lint: $(VENV)
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@scripts/lock --check

lock: $(VENV)
	@scripts/lock

bench: $(VENV)
	@$(BIN)/python bench/run.py

bench-quick: $(VENV)
	@$(BIN)/python bench/run.py --quick

bench-kubernetes: $(VENV) cluster
	@$(BIN)/python bench/kubernetes_run.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +
