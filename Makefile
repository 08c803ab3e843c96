# Thin on purpose: the work is in scripts/, bench/ and cargo.
.DEFAULT_GOAL := help
.PHONY: help demo build pgo test suites fuzz simulation lint bench clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: ## a throwaway PostgreSQL with howdah in front of it, in the first minute
	@scripts/setup rust postgres
	@cargo build --profile demo
	@target/demo/howdah demo

build: ## the release binary, target/release/howdah
	@scripts/setup rust
	cargo build --release

pgo: ## a release binary that has learnt from what users do, target/pgo/howdah: it takes less CPU
	@scripts/setup rust postgres bench llvm
	@scripts/pgo

test: ## every check and test there is
	@scripts/setup
	@scripts/test

suites: ## the test suites of drivers, of Django and of PostgreSQL itself, directly and through howdah
	@scripts/setup rust postgres suites
	@cargo build
	@tests/suites/run

fuzz: ## every function that reads what others write, for a minute each under libFuzzer
	@scripts/setup rust
	@scripts/fuzz all

simulation: ## a hundred thousand seeds of the simulation, for a night (docs/testing.md)
	@scripts/setup rust
	@scripts/simulate

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench: ## the measurements, against every pooler that is found
	@scripts/setup rust postgres pgbouncer bench
	@cargo build --release --bin howdah # by itself: what tests and examples need of the runtime is not in it
	@cargo build --release --example ceiling
	@cargo bench --no-run --bench sql --bench wire --bench pool
	@bench/run
	@if command -v valgrind >/dev/null; then HOWDAH_BIN= bench/instructions; else echo 'valgrind is not found: no instructions are counted' >&2; fi

clean: ## removes what was built and installed below this directory
	cargo clean
	rm -rf .venv tests/clients/node_modules
