# The environment lives in .venv and is made again when a lock or pyproject.toml changes.
# PYTHON names the interpreter to make it with, JOBS how many tests run at once, ARGS what to hand on:
#     make test ARGS="-k lease"

PYTHON ?= python3
JOBS ?= $(shell nproc)
ARGS ?=
SEEDS ?= 1000

BIN := .venv/bin
READY := .venv/.ready
# What mypy reads: folders that have Python in them.
TYPED := src $(patsubst %/,%,$(sort $(dir $(wildcard benchmarks/*.py examples/*.py scripts/*.py tests/*.py))))

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench soak protos lock clean reference

help: $(READY)
	@echo 'Ready: the command is $(BIN)/rota. There is also:'
	@echo '  make demo     a cluster with two workers does real work and stops'
	@echo '  make test     lint, then all tests          (ARGS="-k lease" picks some)'
	@echo '  make lint     format, lint rules and types'
	@echo '  make format   put the code into shape'
	@echo '  make bench    measure, next to yardsticks   (ARGS passes on)'
	@echo '  make soak     seeded disasters: SEEDS=20000 runs of 50 workers and 500 tasks'
	@echo '  make protos   generate the messages of gRPC from proto/'
	@echo '  make reference write docs/reference/cli.md anew, from the program'
	@echo '  make lock     resolve the dependencies anew'
	@echo '  make clean    remove the environment and all caches'

$(READY): pyproject.toml requirements.lock requirements-dev.lock scripts/make-env
	@PYTHON='$(PYTHON)' scripts/make-env
	@touch $@

demo: $(READY)
	@$(BIN)/python examples/demo.py $(ARGS)

# Tests that must not run side by side are in one group: `@pytest.mark.xdist_group("name")`.
test: lint
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --max-worker-restart 0 $(ARGS)

lint: $(READY)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary $(TYPED)

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)
	@$(BIN)/python -m benchmarks $(ARGS)

# The standard fault scenario; what fails is made small and says how to see it again.
soak: $(READY)
	@$(BIN)/python -m rota.simulator.chaos --standard --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

protos: $(READY)
	@scripts/make-protos

# The marked places of the page; what is said between them stays.
reference: $(READY)
	@$(BIN)/python -m scripts.make_reference

# No address of an index gets into the locks: pip takes the one that it is configured for.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--upgrade --custom-compile-command 'make lock' pyproject.toml

lock: $(READY)
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
