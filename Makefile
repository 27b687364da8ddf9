# Two commands do everything on a machine that has python3 (3.11 or newer) with venv, and make:
#   make conform    judge refimpl with the conformance suite (no root, no network after the installation)
#   make test       tox: tests with coverage, lint, types, docs
# Each keeps its own virtual environment and uses it again until pyproject.toml changes.

PYTHON ?= python3
ARGS ?=
PIP_QUIET := --quiet --disable-pip-version-check

.PHONY: help conform test docs clean
.DEFAULT_GOAL := help

help:
	@echo "make conform [ARGS='SUBJECT ... --report DIR']   judge refimpl, or another subject, clause by clause"
	@echo "make test    [ARGS='-e lint']                    tests, lint, types and docs (tox)"
	@echo "make docs                                        the guide in site/guide, the API reference in site/api"
	@echo "make clean                                       remove what these commands made"
	@echo "PYTHON=python3.12 make ...                       use another Python (3.11 or newer)"

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "refimpl needs Python 3.11 or newer, this is " + sys.version.split()[0] or 0)'

# As a user installs it: a wheel, not the sources, so that this proves the package too. Built again when a source changes.
SOURCES := $(shell find refimpl conformance -type f ! -path '*/__pycache__/*')

.venv-conform/installed: pyproject.toml README.md LICENSE $(SOURCES)
	@$(CHECK_PYTHON)
	test -x .venv-conform/bin/pip || $(PYTHON) -m venv .venv-conform
	.venv-conform/bin/pip install $(PIP_QUIET) .
	touch $@

conform: .venv-conform/installed
	.venv-conform/bin/refimpl conform $(ARGS)

.venv-test/stamp: pyproject.toml
	@$(CHECK_PYTHON)
	test -x .venv-test/bin/pip || $(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install $(PIP_QUIET) 'tox>=4.20'
	touch $@

test: .venv-test/stamp
	.venv-test/bin/tox run $(ARGS)

.venv-docs/stamp: pyproject.toml
	@$(CHECK_PYTHON)
	test -x .venv-docs/bin/pip || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install $(PIP_QUIET) -e '.[docs,tracing]'
	touch $@

docs: .venv-docs/stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet --config-file docs/mkdocs.yml --site-dir $(CURDIR)/site/guide
	.venv-docs/bin/python -m sphinx -W --keep-going -q -j auto -b html docs/api site/api

clean:
	rm -rf .venv-conform .venv-test .venv-docs .tox site build dist
