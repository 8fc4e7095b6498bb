# Two commands do all the set-up: `make demo` and `make test`. The versions are those of
# constraints.txt, so that a fresh machine gets what was tested.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: qgis demo docs test test-all lint types contract quick slow format wheel locked lock benchmarks soak fuzz clean help
help:
	@echo "make demo        translate a real Sentinel-2 scene and measure the error (out/demo)"
	@echo "make test        lint, types, the direction of imports, the quick tests (6 minutes)"
	@echo "make test-all    the same, and the slow tests"
	@echo "make format      rewrite the code in the house style"
	@echo "make docs        build the site into build/site (its tutorials run: 10 minutes at first)"
	@echo "make qgis        build the plugin for QGIS: dist/crossband_provider-*.zip"
	@echo "make wheel       build dist/*.whl"
	@echo "make locked      install into .venv what requirements.lock has the hashes of"
	@echo "make lock        write requirements.lock: the hashes of what constraints.txt pins"
	@echo "make soak        run the long checks and write docs/soak.md (needs 12 GB of disk)"
	@echo "make fuzz        run 20,000 hostile inputs and write docs/robustness.md (10 minutes)"
	@echo "make benchmarks  print tables of docs/performance.md, and folds of rgb2nir (three hours)"

demo: $(VENV)/.ready
	$(BIN)/crossband demo --out out/demo

test: lint types contract quick

test-all: test slow

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-test
	$(BIN)/mypy

contract: $(VENV)/.ready-test
	$(BIN)/lint-imports

# Two processes of one thread each: the tests are many and small. Compiled modules are kept, whatever
# the environment says: the suite starts hundreds of processes.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

quick: $(VENV)/.ready-test
	$(PYTEST) -m "not slow"

slow: $(VENV)/.ready-test
	$(PYTEST) -m slow

format: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What a page or its code changed is built again, and a tutorial that changed runs again. Without the
# tutorials' results: CROSSBAND_TUTORIALS=off make docs
docs: $(VENV)/.ready-docs
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/sphinx-build -W --keep-going -q -b html docs build/site
	@echo "open build/site/index.html"

wheel: $(VENV)/.ready
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# The wheel lies in the plugin, so that its button installs the Crossband that it was tested with.
qgis: wheel
	$(BIN)/python qgis/package.py dist

# pip prefers files whose hash the index states, so torch goes first: the build that pip takes here may
# come from elsewhere, as one for CPUs does.
TORCH = pip download --quiet --no-deps --dest build/torch "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
TORCH_HASH = "$$($(BIN)/python -m pip hash build/torch/torch-*.whl | tail -n 1)"

locked:
	$(PYTHON) -m venv --clear $(VENV)
	rm -rf build/torch
	$(BIN)/python -m $(TORCH)
	grep -q -e $(TORCH_HASH) requirements.lock || { echo "requirements.lock lacks this torch"; exit 2; }
	$(BIN)/python -m pip install --quiet --no-deps build/torch/torch-*.whl
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(VENV)/.ready $(VENV)/.ready-test

# Hashes of all files that the index has of these versions, for any machine and Python.
lock: BIN := build/lock/bin
lock:
	$(PYTHON) -m venv --clear build/lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-deps --generate-hashes \
		--no-header --no-annotate constraints.txt -o build/requirements.lock
	rm -rf build/torch
	$(BIN)/python -m $(TORCH)
	hash=$(TORCH_HASH); grep -q -e "$$hash" build/requirements.lock || \
		sed -i "s/^torch==.*/&\n    $$hash \\\\/" build/requirements.lock
	mv build/requirements.lock requirements.lock

benchmarks: $(VENV)/.ready-test
	$(BIN)/python benchmarks/translate.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/train.py --profile
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/pack_libraries.py
	$(BIN)/python benchmarks/manifests.py write
	$(BIN)/python benchmarks/inner_folds.py rgb2nir/local-pyramid

soak: $(VENV)/.ready-test
	$(BIN)/python benchmarks/soak.py

fuzz: $(VENV)/.ready-test
	$(BIN)/python benchmarks/fuzz.py --page docs/robustness.md

clean:
	rm -rf $(VENV) out dist build

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Crossband needs Python 3.11 or later; set one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@# torch first and pinned, so that no other package asks for its newest build.
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) -e .
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) -e '.[test]'
	@touch $@
