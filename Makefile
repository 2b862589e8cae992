# Everything a checkout needs. Each target installs into .venv first when that is missing or out of date.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

LOG := $(VENV)/install.log

# A counter where there is a terminal to show it on; all that pip says is in $(LOG).
PROGRESS := awk -v tty="$$([ -t 2 ] && echo 1 || echo 0)" '\
	/^Collecting / { n++; if (tty) printf "\r\033[K  %d packages: %s", n, $$2 > "/dev/stderr" } \
	/^Installing collected/ { if (tty) printf "\r\033[K" > "/dev/stderr"; if (n) print "  unpacking " n " packages ..." > "/dev/stderr" } \
	{ fflush("/dev/stderr") }'

.PHONY: help install demo test check format bench bench-kernels bench-methods storms proto clean distclean

help:
	@echo "make demo    install and train a small language model with four daemons on this machine"
	@echo "make test    make check, then every test"
	@echo "make check   ruff, mypy, import-linter"
	@echo "make format  let ruff put the code in order"
	@echo "make bench   run the benchmarks; make bench-kernels or bench-methods only those"
	@echo "make storms  every scenario with faults under a thousand fresh seeds (SEEDS=A..B); for the night"
	@echo "make proto   compile protocol/*.proto"
	@echo "make clean   remove what tools left; make distclean removes .venv too"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing Gossamer into $(VENV) (once; a minute or two) ..." >&2
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -c constraints.txt -e '.[peer,dev]' 2>&1 | tee $(LOG) | $(PROGRESS) \
		|| { echo "Installing failed; the end of $(LOG):" >&2; tail -n 15 $(LOG) >&2; exit 1; }
	@echo "Compiling kernels ..." >&2
	@$(BIN)/python -m gossamer.algorithms.kernels
	@touch $@

demo: install
	@$(BIN)/gossamer demo

test: check
	@$(BIN)/python -m pytest -n auto --dist loadgroup

check: install .as/gossamer
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install
	@for file in benchmarks/bench_*.py; do name=$$(basename "$$file" .py); echo "== $$name"; $(BIN)/python -m "benchmarks.$$name"; done

bench-kernels bench-methods: bench-%: install
	@$(BIN)/python -m benchmarks.bench_$*

# Every scenario with faults, each night with other seeds.
FAULTS := storm tempest stages preempted liars bad-leader half-of-europe
TODAY := $(shell date +%y%m%d)
SEEDS ?= $(TODAY)000..$(TODAY)999
storms: install
	@violated=""; for name in $(FAULTS); do \
		$(BIN)/gossamer simulate examples/scenarios/$$name.toml --seeds $(SEEDS) --jobs $$(nproc) \
			|| violated="$$violated $$name"; \
	done; [ -z "$$violated" ] || { echo "a property was violated in:$$violated" >&2; exit 1; }

proto: install
	@PYTHON="$(CURDIR)/$(BIN)/python" sh protocol/compile.sh

# mypy finds the package here; see pyproject.toml.
.as/gossamer:
	@mkdir -p .as && ln -sfn .. .as/gossamer

clean:
	rm -rf .as .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
