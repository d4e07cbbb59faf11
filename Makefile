# What there is to do in this checkout; `make` alone lists it.

# Arguments of the demo, by variables: `make demo REAL=1`.
DEMO_ARGS = $(if $(REAL),--real)

# Arguments of the benchmark, by variables: `make bench BASES=300`, `make bench TUNNEL=http`, `make bench SOAK=30`,
# `make bench TAKEOVER=1`, `make bench BATCHES=10`, `make bench PROBES=5`.
BENCH_ARGS = $(if $(BASES),--bases $(BASES)) $(if $(TUNNEL),--tunnel $(TUNNEL)) $(if $(SOAK),--soak $(SOAK)) $(if $(TAKEOVER),--takeover) $(if $(BATCHES),--batches $(BATCHES)) $(if $(PROBES),--probes $(PROBES)) $(if $(JSON),--json $(JSON))

# The cargo-deny that is installed where there is none; a newer one does too.
CARGO_DENY = 0.20.2

# Chaos, by variables: `make chaos MINUTES=10`, `make chaos SEED=1`.
MINUTES ?= 10

# The cargo-cyclonedx that is installed where there is none.
CARGO_CYCLONEDX = 0.5.9

.DEFAULT_GOAL := help
.PHONY: help setup setup-node control-plane build image definition test test-node chaos demo bench dist lint deny rust

help: ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: rust ## Install and build what the tests need (Mosquitto, Java, Lua, a control plane, Helm, Prometheus' query engine, virtual-kubelet's tests)
	@tests/kit/setup

setup-node: rust ## The same for test-node, too (a kubelet, containerd, runc, buildah)
	@tests/kit/setup node

control-plane: ## Build the Kubernetes control plane for tests and demo, once
	@tests/kit/build-tool control-plane

build: rust ## Build modulet, optimised, into target/release
	MODULET_REVISION=$$(git rev-parse HEAD 2>/dev/null) cargo build --release --locked --bin modulet

image: ## Build the image as an OCI archive, without Docker, and check it (BINARY=…: of this program instead of an optimised build)
	$(if $(BINARY),,@$(MAKE) --no-print-directory build)
	@image/archive $(or $(BINARY),target/release/modulet)

definition: rust ## Make the chart's definition of ModuleRollout (CRD) from its types anew
	MODULET_RENEW=1 cargo test --locked --test rollout definition

test: setup ## Run all tests, with a real control plane, a real broker and real bases
	cargo test --workspace --locked --no-fail-fast
	cargo test --locked --test e2e -- --test-threads=12 --skip alone::
	cargo test --locked --test e2e -- --test-threads=3 alone::

chaos: setup ## Break all that can break at random for MINUTES=10, with SEED=…, and hold what is promised
	MODULET_CHAOS_MINUTES=$(MINUTES) MODULET_CHAOS_SEED=$(SEED) \
		cargo test --locked --test chaos -- --ignored --nocapture for_minutes

test-node: setup-node ## Test the chart and the image on a machine with a real kubelet (as root, on Linux)
	cargo test --locked --test node

demo: rust ## Show it: a cluster, a broker and bases on this machine (REAL=1: a real JVM)
	@[ -n "$$KUBECONFIG" ] || tests/kit/build-tool control-plane --check
	cargo build --locked --bin modulet --example demo
	@cargo run --quiet --locked --example demo -- $(DEMO_ARGS)

bench: rust ## Measure it: BASES=1000 simulated bases; TUNNEL=http without a broker; SOAK=30 churns, TAKEOVER=1 kills the leader, BATCHES=10 releases in batches, PROBES=5 probes each 5 s instead
	@tests/kit/build-tool control-plane --check
	cargo build --release --locked --bin modulet --example bench
	@cargo run --release --quiet --locked --example bench -- $(BENCH_ARGS)

dist: image ## Make what a release consists of, from a clean checkout: program, image, chart, SBOM, checksums (target/dist)
	@tests/kit/build-tool helm
	@cargo cyclonedx --version >/dev/null 2>&1 || { \
		echo "dist: installing cargo-cyclonedx $(CARGO_CYCLONEDX), once" && \
		cargo install --quiet --locked --debug cargo-cyclonedx --version $(CARGO_CYCLONEDX); }
	@.ci/dist

lint: rust deny ## Check format, lints, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --locked --test e2e --test chaos --test node -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The database of advisories is a git repository elsewhere: without it the rest is still checked.
deny: rust ## Check the dependencies: licences, bans, sources, and advisories if they can be fetched
	@cargo deny --version >/dev/null 2>&1 || { \
		echo "deny: installing cargo-deny $(CARGO_DENY), once" && \
		cargo install --quiet --locked --debug cargo-deny --version $(CARGO_DENY); } || { \
		echo "deny: please install cargo-deny: cargo install --locked cargo-deny --version $(CARGO_DENY)" >&2; \
		exit 1; }
	cargo deny --workspace --locked check licenses bans sources
	@if cargo deny fetch db >/dev/null 2>&1; then \
		echo "cargo deny --workspace --locked check advisories"; \
		cargo deny --workspace --locked check advisories; \
	else \
		echo "deny: the advisories are not checked: their database cannot be fetched (see 'cargo deny fetch db')" >&2; \
	fi

# In the checkout's directory rustup's cargo is the toolchain rust-toolchain.toml names, or fails.
rust:
	@cargo --version >/dev/null 2>&1 || { \
		echo "Rust $$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml) is not installed: run 'rustup toolchain install' here, or get rustup from https://rustup.rs" >&2; \
		exit 1; }
