# make demo [REAL=path]   generate a synthetic CT, put it beside a real scan in a Slicer scene, save both to demo/
# make test [ARGS=...]    all tests            make lint    formatting, lint, types
#           [WORKERS=0]   in this process: prints appear at once, and a debugger works
# make bench [RUN=folder MODEL=file ARGS=...]   all figures of speed, in build/bench; about 20 minutes
# make screenshots [OUT=folder MODEL=file ARGS=...]   pictures of the module's panel, in build/screenshots
# make clean              remove what the above made, except .venv;  make distclean removes .venv too
#
# Needs git, make and Python 3.11, 3.12 or 3.13; everything else is installed into .venv on the first call.
# The demo uses a CPU build of PyTorch where pip offers one; see CONTRIBUTING.md for how to choose another.

VENV ?= .venv
# Processes for the tests, a file at a time in each: the tests of a file share what was costly to make. Each has one
# thread (Testing/conftest.py) and needs about 2 GB.
WORKERS ?= logical --maxprocesses 4
EXTRAS := train,evaluate,slicer,dev
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --retries 10 --timeout 120 --disable-pip-version-check
CONSTRAINTS := Testing/constraints.txt
INSTALLED := $(VENV)/.installed

# The first Python of the right age that can make a virtual environment; override with make PYTHON=/path/to/python.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 /usr/bin/python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo "$$p"; break; }; done)

.PHONY: demo test bench screenshots lint format install clean distclean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(PY) Testing/demo/make_demo.py --out demo --report $(if $(REAL),--real "$(REAL)")

test: $(INSTALLED)
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(INSTALLED)
	$(PY) Testing/benchmarks/bench.py $(if $(RUN),--run "$(RUN)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

screenshots: $(INSTALLED)
	$(PY) Testing/module/screenshots.py $(if $(OUT),--out "$(OUT)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

lint: $(INSTALLED)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(INSTALLED)
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

install: $(INSTALLED)

# torch comes first and alone: it is the largest part, and if it fails the reason stands at the end of the output.
# A second attempt follows a failed one: half of all failures are the network's.
$(INSTALLED): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(VENV): several hundred MB, some minutes, once."
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install -qq --upgrade pip || $(PIP) install --upgrade pip
	$(PIP) install -qq --constraint $(CONSTRAINTS) torch || $(PIP) install --constraint $(CONSTRAINTS) torch
	$(PIP) install -qq --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]' \
	|| $(PIP) install --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
