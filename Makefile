# Two commands do everything: `make demo` and `make test`. Everything they install or write stays
# below this folder (.venv and runs), and the second run starts at once.

PYTHON ?= python3
# TORCH=default installs torch as pip finds it (on Linux: with CUDA); otherwise the CPU build.
TORCH ?= cpu
# Processes that share out the test files. Each trains and exports a small model of its own.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench endurance sbom clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## Make the virtual environment and fetch the Triton carrier

$(READY): pyproject.toml constraints.txt scripts/setup.sh $(wildcard lock/*.txt)
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" VENV="$(VENV)" sh scripts/setup.sh
	@touch $@

demo: $(READY) ## Train on generated scenes, export, serve with Triton, search (EPOCHS=30 for longer)
	@$(BIN)/vireo demo --out runs/demo $(if $(EPOCHS),--epochs $(EPOCHS))

test: $(READY) ## Run all tests, the ones against a real Triton included
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore=tests/web/browser
	@# In processes of their own: playwright's event loop keeps out those of other tests.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/web/browser

lint: $(READY) ## Check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(READY) ## Measure the demo's model and towers of real size, runs/bench (after `make demo`)
	@$(BIN)/python -m benchmarks all --quick --out runs/bench

endurance: $(READY) ## Try kills, races, poison, keys and TLS at length (half an hour)
	@cd tests && ../$(BIN)/python -m endurance

sbom: $(READY) ## Write the bill of materials of the environment, runs/sbom.json (CycloneDX)
	@[ -x $(VENV)/sbom/bin/cyclonedx-py ] || { $(PYTHON) -m venv $(VENV)/sbom && \
		$(VENV)/sbom/bin/pip install -q --require-hashes --no-deps -r lock/sbom.txt; }
	@mkdir -p runs
	@$(VENV)/sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml \
		--output-reproducible -o runs/sbom.json
	@echo "runs/sbom.json"

clean: ## Remove the environment and everything the demo wrote
	rm -rf $(VENV) runs
