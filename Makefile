# SPDX-License-Identifier: BSD-3-Clause
# The same commands for people and for CI. Nothing needs root but the apt step, which uses sudo where it must.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# What `make run` needs of Debian, and what the tests need besides.
APT_RUN := bubblewrap gcc libc6-dev python3-dev python3-venv
APT_TEST := ccache gcc-arm-linux-gnueabihf iproute2 libc6-dev-armhf-cross postgresql tmux

# Where `make run` keeps its farm. Package code never runs as root, and its account must be able to get there.
ifeq ($(shell id -u),0)
DATA ?= /var/tmp/piwheels-node-run
else
DATA ?= $(CURDIR)/.run
endif

# Tests of the sandbox, the kernel's limits and the network: no library's version makes a difference to them, so
# they run with the newest versions only.
ONCE := $(addprefix integration/test_,arm.py compiled.py corpus.py fleet.py freeze.py full_disk.py hostile.py \
    layers.py rooms.py roots.py) system/test_farm.py

# Most tests wait, for a process or a lease, and compute little: twice as many at a time as there are cores. Who
# has done his share takes half of another's.
WORKERS ?= $(shell expr 2 '*' $$(nproc))
PYTEST := pytest -n $(WORKERS) --dist worksteal

BIN := .venv/bin
TRIXIE := .venv-trixie/bin

.DEFAULT_GOAL := help
.PHONY: help setup apt-run apt-test run test test-newest test-trixie test-armhf test-roots lint format bench fresh deb test-deb test-vm clean

help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

apt-run:
	@tools/apt-packages $(APT_RUN)

apt-test: apt-run
	@tools/apt-packages $(APT_TEST)

setup: apt-test .venv/ready  ## Debian packages, and .venv with everything in it

run: apt-run .venv/ready  ## build real packages from source, publish them, install them with pip
	@$(BIN)/python tools/first_run.py --data $(DATA)

test: apt-test  ## lint, then all tests, with the newest and with trixie's versions
	@$(MAKE) --no-print-directory --jobs=2 .venv/ready .venv-trixie/ready
	@$(MAKE) --no-print-directory lint test-newest test-trixie

lint: .venv/ready  ## ruff, mypy, import-linter, names of test files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/one_name.py

format: .venv/ready  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-newest: setup
	$(BIN)/$(PYTEST)

test-trixie: apt-test .venv-trixie/ready
	$(TRIXIE)/$(PYTEST) -m "not pypi" $(addprefix --ignore=tests/,$(ONCE))

bench: setup  ## jobs here against pip wheel and uv build, in one run
	$(BIN)/python benchmarks/build.py --quick

.venv/ready: setup.cfg pyproject.toml
	@tools/apt-packages python3-venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,lint,bench]'
	touch $@

.venv-trixie/ready: setup.cfg pyproject.toml tests/constraints-trixie.txt
	$(PYTHON) -m venv .venv-trixie
	$(TRIXIE)/python -m pip install --quiet --constraint tests/constraints-trixie.txt pip setuptools
	$(TRIXIE)/python -m pip install --quiet --constraint tests/constraints-trixie.txt --editable '.[test]' uv
	touch $@

fresh:  ## `make run test` in a fresh clone on a fresh Debian, as root and as a user (root, mmdebstrap)
	for suite in bookworm trixie; do \
	    tests/system/fresh-machine $$suite run test; \
	    FRESH_USER=pi tests/system/fresh-machine $$suite run test; \
	done

test-armhf: deb .venv/ready  ## the package in a Debian for armhf, emulated: real wheels from real sdists (root, qemu)
	@tools/apt-packages arch-test bubblewrap mmdebstrap qemu-user-static
	tests/system/armhf/run dist/piwheels-node_*_all.deb

deb:  ## the Debian package, built and looked at by lintian in a clean trixie, into dist/ (root, mmdebstrap)
	@tools/apt-packages mmdebstrap
	tools/deb dist

test-deb: deb  ## the package installed, reconfigured, upgraded, purged; its services under systemd (root)
	@tools/apt-packages iproute2
	tests/system/debian/run dist/piwheels-node_*_all.deb

test-vm: deb  ## builds under the hardened unit with real control groups, in a virtual machine (root, qemu)
	@tools/apt-packages qemu-system-x86
	tests/system/debian/vm dist/piwheels-node_*_all.deb

test-roots:  ## a build root of Debian trixie, and real packages built there with what they lack (mmdebstrap)
	@tools/apt-packages bubblewrap mmdebstrap
	TEST_ROOTS=$${TEST_ROOTS:-1} $(BIN)/pytest -v tests/system/test_roots_real.py

clean:  ## remove what was made here, the farm of `make run` included
	rm -rf .venv .venv-trixie build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf $(DATA)
