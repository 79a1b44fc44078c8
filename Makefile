# make demo   train on 8 real ARC tasks and show the answers
# make test   the tests, but for the long ones; make test-all   those too (installs torch)
# make bench  speed and memory against this machine's own limit: about 24 minutes
# make rearc  RE-ARC's generators, for the source rearc (docs/data.md)
# make browser  Chromium, for the tests of the report; without it they are skipped
# make chaos  runs of several processes, preempted and killed 40 times, and drm solve 20 times: about
#             25 minutes
# make newest  all tests with the newest libraries that pyproject.toml allows, instead of those of
#             constraints.txt, in .venv-newest; prints which they were. For every week
# Each sets up what it needs in .venv; PYTHON=... picks the interpreter, VENV=... the folder. By
# default it is the newest supported Python that can make an environment: the newest jax needs 3.12.
# An environment that is there keeps its Python: delete .venv to change it.
VENV ?= .venv
NEWEST := .venv-newest
# Whether an interpreter is of a version, or newer than all these (the tests weren't run on that), and
# can make environments.
IS = -c 'import sys, ensurepip, venv; v = "%d.%d" % sys.version_info[:2]; \
  sys.exit(v != sys.argv[1] and (sys.argv[1] != "newer" or sys.version_info < (3, 14)))'
PYTHON ?= $(shell for v in 3.13 3.12 3.11 newer; do for p in python$$v python3; do \
  $$p $(IS) $$v 2>/dev/null && echo $$p && exit; done; done)
HAS_PYTHON = test -n "$(PYTHON)" || { echo "drm_jax needs Python 3.11, 3.12 or 3.13 that can make \
environments (Debian and Ubuntu: apt install python3-venv): install it, or say make \
PYTHON=/path/to/python"; exit 1; }
HAS_PIP = $(VENV)/bin/python -m pip --version >/dev/null 2>&1
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_TORCH := $(VENV)/.ready-torch

.PHONY: demo test test-all rearc browser bench chaos newest lint clean

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

newest:
	@$(HAS_PYTHON)
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[dev,torch]'
	$(NEWEST)/bin/python -m pip freeze --exclude-editable
	$(NEWEST)/bin/python -m pytest -n 2 --dist loadfile

lint: $(READY_DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(READY): pyproject.toml constraints.txt
	@$(HAS_PIP) || $(HAS_PYTHON)
	$(HAS_PIP) || { rm -f $(VENV)/bin/python*; $(PYTHON) -m venv $(VENV); }
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[play]'
	touch $@

$(READY_DEV): $(READY)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(READY_TORCH): $(READY_DEV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,torch]'
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST) runs
