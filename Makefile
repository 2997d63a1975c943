# make run    see it work: two real MCP servers, Outrigger in front, a real client through it; Ctrl-C ends all
# make test   everything: format, lints, Rust tests, then the black-box suite with real processes
# make long   the tests that take minutes each
# make bench  measurements
# What is missing on the machine is installed first (tests/setup/setup.sh); a second run finds it there.

SETUP := tests/setup/setup.sh
CACHE := $(or $(OUTRIGGER_TEST_CACHE),.venvs)
PYTHON := $(CACHE)/harness/bin/python
# One profile for everything, so that the dependencies are compiled once.
CARGO := cargo --locked
PYTEST := $(PYTHON) -m pytest tests
# A file at a time in each of two processes; the tests are made for a busy machine.
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: run test long bench build setup lint rust-test blackbox

run:
	@$(SETUP) system harness mcp1
	@$(CARGO) build --release
	@$(PYTHON) tests/run/run.py

test: setup lint build rust-test blackbox

long: setup build
	$(SETUP) rmcp
	$(PYTEST) -m long
	$(CARGO) test --release --lib sizing -- --ignored --nocapture

bench: setup build
	tests/bench/run.sh

setup:
	$(SETUP)

lint:
	cargo fmt --check
	$(CACHE)/harness/bin/ruff check --quiet tests && $(CACHE)/harness/bin/ruff format --quiet --check tests
	$(CARGO) clippy --release --all-targets -- -D warnings

build:
	$(CARGO) build --release

rust-test:
	# What is built with the binary's own link-time optimisation takes its time; examples and benches are checked by clippy.
	$(CARGO) test --release --lib --test '*'

blackbox:
	tests/blackbox.sh $(PYTEST) $(PYTEST_ARGS)
