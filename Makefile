# What a developer runs; `make help` lists it.

# Debian packages that tests call: ffmpeg for real workers, sqlite3 as a second opinion on the store, strace to inject
# I/O errors, faketime and fuse3 for clocks and disks that fail, postgresql for the engine on it and pgbouncer before it, tmux
# and python3-tqdm for commands at a terminal and their progress, and what runs the examples of the documentation: chromium,
# curl, python3.
TEST_PACKAGES := chromium curl faketime ffmpeg fuse3 nginx openssl pgbouncer postgresql python3 python3-tqdm sqlite3 strace tmux
# How often `make crash` kills the server.
KILLS ?= 500
# How often `make power` cuts the power.
CUTS ?= 1000
# How many bits `make faults` flips.
FLIPS ?= 1000
# How long `make soak` works on each engine.
MINUTES ?= 30
# How often `make failover` kills the primary.
FAILOVERS ?= 30
# How many lives `make model` tells.
CASES ?= 100000
# Requests that `make contract` makes up of each operation.
EXAMPLES ?= 200
# Under how many schedules `make interleave` runs each scenario.
SCHEDULES ?= 100000
# The Python tools of the tests, and the service for those who test it from outside of cargo.
VENV := $(CURDIR)/target/venv/bin
BINARY := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/milepost
# The JavaScript client, with a Node.js that is recent enough.
NPM := PATH="$$(scripts/install-node):$$PATH" npm --prefix clients/js
NODE_MODULES := clients/js/node_modules/.package-lock.json
# How long `make fuzz` tries each of its targets, and which; none: all.
SECONDS ?= 180
TARGETS ?=

.DEFAULT_GOAL := help
.PHONY: run test test-python test-js check bench demo fmt crash power faults soak failover hostile interleave model replicas transfer contract fuzz help

run: ## start the server, with ARGS="--listen 127.0.0.1:0" and the like
	cargo run --release --locked -- serve $(ARGS)

test: target/venv/installed ## install what the tests need and run all of them
	scripts/install-packages $(TEST_PACKAGES)
	cargo test --locked --doc
	cargo test --locked --all-targets
	$(MAKE) --no-print-directory test-python test-js

test-python: target/venv/installed $(BINARY) ## test the Python client against the service that was built last
	cd clients/python && MILEPOST_BINARY=$(BINARY) $(VENV)/python -m pytest

test-js: $(NODE_MODULES) $(BINARY) ## test the JavaScript client against the service that was built last
	scripts/install-packages chromium
	MILEPOST_BINARY=$(BINARY) $(NPM) test

check: target/venv/installed $(NODE_MODULES) ## formatting, lints, documentation, dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	scripts/deny
	cd clients/python && $(VENV)/ruff format --check . && $(VENV)/ruff check . && $(VENV)/mypy
	$(NPM) run check

bench: ## measure the server against its ceiling and against the alternatives
	bench/run

demo: target/venv/installed ## process real clips with real workers and watch them
	scripts/install-packages ffmpeg procps python3
	scripts/fetch-clips
	cargo build --release --locked
	$(VENV)/python scripts/demo
	$(VENV)/python scripts/demo-claims

fmt: target/venv/installed $(NODE_MODULES) ## format the code
	cargo fmt
	cd clients/python && $(VENV)/ruff format . && $(VENV)/ruff check --fix .
	$(NPM) run fmt

crash: ## the long campaign: kill -9 under load, KILLS=500 times
	MILEPOST_CRASH_KILLS=$(KILLS) cargo test --release --locked --test it -- --ignored --nocapture crash_campaign

power: ## the long campaign: the machine loses its power under load, CUTS=1000 times
	scripts/install-packages fuse3
	MILEPOST_POWER_CUTS=$(CUTS) cargo test --release --locked --test it -- --ignored --nocapture power_campaign

faults: power ## all that disks do: power lost CUTS=1000 times, FLIPS=1000 flipped bits, syncs that fail, full disks; and clocks that are set
	scripts/install-packages faketime fuse3 postgresql strace
	MILEPOST_ROT_FLIPS=$(FLIPS) cargo test --release --locked --test it -- --ignored --nocapture rot_campaign clock_campaign disk_campaign
	cargo test --release --locked --test it -- campaign::faults campaign::clocks

soak: ## the long campaign: work for MINUTES=30 on each engine, with done jobs removed; nothing may grow
	scripts/install-packages postgresql
	MILEPOST_SOAK_MINUTES=$(MINUTES) cargo test --release --locked --test it -- --ignored --nocapture soak_campaign

failover: ## the long campaign: the primary of a cluster dies under load, FAILOVERS=30 times, and restarts as often; then its network
	scripts/install-packages nginx openssl postgresql python3
	MILEPOST_FAILOVERS=$(FAILOVERS) cargo test --locked --test it -- --ignored --nocapture failover_campaign network_campaign

hostile: ## the long campaign: a thousand clients that are slow or do not read, 15,000 idle streams, bodies without an end
	scripts/install-packages slowhttptest
	cargo test --release --locked --test it -- --ignored --nocapture --test-threads 1 hostile_campaign

interleave: ## the long campaign: store, committer and hub, step by step under SCHEDULES=100000 orders for each scenario
	MILEPOST_SCHEDULES=$(SCHEDULES) cargo test --release --locked --lib -- --nocapture interleavings

model: ## the long campaign: CASES=100000 random lives of jobs, and of whole stores on each engine, beside a plain model
	scripts/install-packages postgresql
	PROPTEST_CASES=$(CASES) cargo test --release --locked --test model -- --nocapture

replicas: ## the long campaign: three replicas on PostgreSQL are killed under load, together and one by one, KILLS=500 times
	scripts/install-packages postgresql
	MILEPOST_CRASH_KILLS=$(KILLS) cargo test --release --locked --test it -- --ignored --nocapture replicas_campaign

transfer: ## moves 100,000 jobs from the embedded engine to PostgreSQL and back, and compares
	scripts/install-packages postgresql
	cargo test --release --locked --test it -- --ignored --nocapture transfer_campaign

contract: target/venv/installed ## the long campaign: requests made of openapi.json, EXAMPLES=200 of each operation and more
	MILEPOST_CONTRACT_EXAMPLES=$(EXAMPLES) cargo test --locked --test it -- --ignored --nocapture contract_campaign

fuzz: ## the long campaign: feeds all that reads strangers' bytes with mutations of them, SECONDS=180 for each door
	scripts/install-packages g++
	scripts/fuzz $(SECONDS) $(TARGETS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# As `cargo test` builds it; without other features of the dependencies, which would build all of them anew.
$(BINARY):
	cargo test --locked --test it --no-run

# What the JavaScript client is checked and tested with; it needs nothing itself.
$(NODE_MODULES): clients/js/package-lock.json
	$(NPM) ci --ignore-scripts --no-audit --no-fund
	touch $@

# Python tools that tests call, with exact versions, and the Python client.
target/venv/installed: tests/requirements.txt
	scripts/install-packages python3-venv
	python3 -m venv target/venv
	target/venv/bin/pip install --quiet --requirement $< --editable clients/python
	touch $@
