# Type `make` for the list of what there is to make.
.DEFAULT_GOAL := help
.PHONY: help demo run test test-matrix soak lint bench bench-peers services-up services-down clean

# The build without Kafka's client: quick, and all that the embedded log needs.
EMBEDDED := --release --locked -p event-streaming-app --no-default-features
SERVICE := $(or $(CARGO_TARGET_DIR),target)/release/event-streaming

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## builds the embedded service and shows it surviving a kill under load, on real flight data
	@scripts/setup.sh demo
	@echo "building the embedded service (release; a few minutes the first time, seconds after that)…"
	@cargo build $(EMBEDDED) --features embedded
	@$(SERVICE) demo

run: ## serves on the embedded log in ./data; on Kafka where KAFKA_BROKERS names one
ifdef KAFKA_BROKERS
	@scripts/setup.sh test
	@cargo build --release --locked -p event-streaming-app
else
	@scripts/setup.sh demo
	@cargo build $(EMBEDDED) --features embedded
endif
	@exec $(SERVICE) serve

test: ## all tests, against a real Kafka, Redis and PostgreSQL that it starts and stops itself
	@scripts/test.sh

test-matrix: ## the tests again on a Kafka of three nodes, and every set of features built
	@scripts/setup.sh test
	cargo check --locked -p event-streaming-app --no-default-features --features embedded
	cargo check --locked -p event-streaming-embed --all-targets
	cargo check --locked -p event-streaming-ports --all-features
	cargo check --locked -p event-streaming-tests --all-targets --all-features
	@scripts/test.sh --kafka3 -p event-streaming-adapters-kafka -p event-streaming-tests

soak: ## the property and crash tests and the simulator at length (SOAK_CASES cases, 20000; SEEDS runs, 5000 unless given)
	SEEDS=$(or $(SEEDS),5000) PROPTEST_CASES=$(or $(SOAK_CASES),20000) cargo test --release --locked --no-fail-fast \
		-p event-streaming-domain -p event-streaming-adapters-embedded

lint: ## formatting, clippy with warnings as errors, the shell scripts, and cargo deny where installed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p event-streaming-app --no-default-features --features embedded -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh .ci/run; \
		else echo "shellcheck is not installed: the scripts were not checked (Debian: apt-get install shellcheck)"; fi
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check; \
		else echo "cargo-deny is not installed: dependencies were not checked (cargo install cargo-deny)"; fi

bench: ## what the service costs beside raw clients on the same machine: a table and JSON
	@scripts/bench.sh

bench-peers: ## the same with NATS JetStream beside the embedded log
	@scripts/setup.sh peers
	@scripts/bench.sh --peers

services-up: ## starts Kafka, Redis and PostgreSQL on loopback (scripts/services.sh says more)
	@scripts/setup.sh test
	@scripts/services.sh up
	@scripts/services.sh env

services-down: ## stops them and removes their data
	@scripts/services.sh down

clean: services-down ## removes what was built, fetched and started; not ./data
	cargo clean
	rm -rf .services
