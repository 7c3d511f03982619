# The commands of the project. Each does all set-up that it needs, and says what it installs.
#
#   make demo    the main job on this machine, end to end
#   make up      run purser and leave it running
#   make test    every test
#   make check   format, clippy, docs, dependencies, drift of generated files
#   make bench   the planners and the sealing alone, then purser beside a real swarm manager

SHELL := /bin/bash
CARGO ?= cargo

.PHONY: demo up test check bench setup

setup:
	@tools/setup

demo: setup
	$(CARGO) build --release --locked
	demo/run

up: setup
	$(CARGO) build --release --locked
	target/release/purser up

test: setup
	tools/test

check:
	tools/check

bench: setup
	$(CARGO) bench --locked --bench plan
	$(CARGO) bench --locked --bench seal
	$(CARGO) bench --locked --bench load
