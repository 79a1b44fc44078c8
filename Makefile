# make demo   train on 8 real ARC tasks and show the answers
# make test   the tests, but for the long ones; make test-all   those too (installs torch)
# make bench  speed and memory against this machine's own limit: about 24 minutes
# make rearc  RE-ARC's generators, for the source rearc (docs/data.md)
# make browser  Chromium, for the tests of the report; without it they are skipped
# make chaos  runs of several processes, preempted and killed 40 times, and drm solve 20 times: about
#             25 minutes
# Each sets up what it needs in .venv; PYTHON=... picks the interpreter, VENV=... the folder.
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_TORCH := $(VENV)/.ready-torch

.PHONY: demo test test-all rearc browser bench chaos lint clean

demo: $(READY)
	$(VENV)/bin/drm train experiments/demo.py

test: $(READY_DEV)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not long"

test-all: $(READY_TORCH)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

rearc: $(READY)
	$(VENV)/bin/python -m pip install --quiet --no-deps reasoning-gym==0.1.25

browser: $(READY_DEV)
	if command -v apt-get >/dev/null && test "$$(id -u)" = 0; \
	then apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	else $(VENV)/bin/playwright install chromium; fi

bench: $(READY)
	$(VENV)/bin/python -m benchmarks

chaos: $(READY_DEV)
	$(VENV)/bin/python tests/chaos.py --rounds 20 --method trm
	$(VENV)/bin/python tests/chaos.py --rounds 20 --method drm
	$(VENV)/bin/python tests/chaos_solve.py --rounds 10
	$(VENV)/bin/python tests/chaos_solve.py --rounds 10 --each

lint: $(READY_DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "drm_jax needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(READY_DEV): $(READY)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(READY_TORCH): $(READY_DEV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,torch]'
	touch $@

clean:
	rm -rf $(VENV) runs
