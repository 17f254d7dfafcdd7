# Everything a fresh machine needs. `make run` and `make test` do their own set-up.
VENV ?= .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base-$(shell cat requirements/base.lock pyproject.toml | cksum | cut -d' ' -f1)
DEV := $(VENV)/.dev-$(shell cat requirements/dev.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: help run test check bench soak fuzz lock clean

help:  ## This list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 10

run: $(BASE)  ## Set up, then run the demo: about two minutes on a fresh machine
	$(BIN)/finllm demo

# The tests' processes fill the cores: linear algebra on further threads only spins beside them.
test: $(DEV)  ## Set up, then every check and every test
	$(MAKE) --no-print-directory check
	$(BIN)/finllm warm
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

check: $(DEV)  ## Style, types and the walls between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV)  ## Speed; leave the machine alone meanwhile
	$(BIN)/python -m pytest -q -m bench tests/benchmarks

soak: $(DEV)  ## Long acceptance runs: crashes, power cuts, tampering, look-ahead
	$(BIN)/python -m pytest -q -s -m soak --timeout 7200 tests/soak

fuzz: $(DEV)  ## Five minutes of coverage-guided fuzzing for each venue's decoder (Linux)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/fuzz.lock
	$(BIN)/python tests/fuzz/run.py --venue all --minutes 5

$(BASE):
	@bash scripts/setup.sh $(VENV) requirements/base.lock
	@touch $@

$(DEV):
	@bash scripts/setup.sh $(VENV) requirements/dev.lock
	@touch $@ $(BASE)

lock:  ## Renew requirements/*.lock from pyproject.toml (needs uv)
	uv pip compile -q --universal --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements/base.lock
	uv pip compile -q --universal --no-header --no-annotate --no-emit-index-url --extra lab --extra dev -c requirements/base.lock pyproject.toml -o requirements/dev.lock

clean:  ## Remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
