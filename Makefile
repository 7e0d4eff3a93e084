# Each target is a command line that a person would type; the last one composes the others.

PYTHON := .tools/venv/bin/python
EVENT ?= events/reconcile.json
ENV ?= dev
SECONDS ?= 60
ROOT ?= infra/examples/existing-load-balancer

.PHONY: help said-first tools setup build package test prose soak fuzz test-infra demo invoke bench lint fmt deny doc ci clean \
	plan deploy destroy

help: ## What there is.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1\t/' | expand -t 14

tools:
	@tests/summary begin
	@tests/setup tools

setup: ## What the local cloud needs, into .tools/ (make says what).
	@tests/setup

build: ## The functions, into target/release.
	cargo build --release --workspace

package: ## Lambda packages into target/package; ARCH=arm64 (the default), x86_64 or all.
	@infra/package $(ARCH)

said-first:
	@echo "make test: about 40 minutes on 2 processors from a fresh clone, half of that after a"
	@echo "build; the end says what was skipped and what needed a second try"

test: said-first tools setup build ## All tests: Rust, AWS stand-ins, scripts, and test-infra.
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --release --workspace; \
	else \
		echo "cargo-nextest is not installed: cargo test runs the same tests, one cloud after the other"; \
		cargo test --release --workspace -- --test-threads 2; \
	fi
	cargo test --release --workspace --doc
	$(PYTHON) -m pytest -q -p no:cacheprovider tests/aws tests/scripts
	@tests/infra/run
	@tests/summary

prose: setup ## Width, words and links of what people read: documents, comments, messages.
	$(PYTHON) -m pytest -q -p no:cacheprovider tests/scripts/test_prose.py

soak: ## Simulated years, new seeds: YEARS=5000; one world again: SEED=n TRACE=trace.txt
	@YEARS=$(YEARS) SEED=$(SEED) FIRST=$(FIRST) TRACE=$(abspath $(TRACE)) \
		cargo test --release --quiet --workspace --test simulation -- --ignored --exact --nocapture soak

fuzz: ## Fuzzes all parsers of foreign input: SECONDS=60 (each) TARGETS="pem names" (else all)
	@tests/fuzz/run $(SECONDS) $(TARGETS)

test-infra: ## The Terraform module: checked, then deployed to a local AWS and used there.
	@tests/infra/run

demo: setup build ## The cycle in the terminal, on this machine; KEEP=1 leaves it running.
	@KEEP=$(KEEP) $${CARGO_TARGET_DIR:-target}/release/demo

invoke: ## One event to the running demo: make invoke EVENT=events/issue.json
	@$${CARGO_TARGET_DIR:-target}/release/demo invoke $(EVENT)

bench: setup build ## What things cost, as a table.
	@$${CARGO_TARGET_DIR:-target}/release/bench

lint: ## Clippy, with warnings as errors.
	cargo clippy --release --workspace --all-targets -- -D warnings

fmt: ## Formats everything.
	cargo fmt --all
	cargo fmt --manifest-path tests/fuzz/Cargo.toml

doc: ## The documentation of the code, with warnings as errors.
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --workspace

deny: ## Licences, advisories and bans.
	cargo deny check

plan: ## What make deploy would change: make plan ENV=dev
	@ENV=$(ENV) ROOT=$(ROOT) infra/deploy plan

deploy: ## To AWS, then one pass and its report: make deploy ENV=dev (infra/environments/README.md)
	@ENV=$(ENV) ROOT=$(ROOT) infra/deploy apply

destroy: ## Takes it away again; listeners go on serving what they serve.
	@ENV=$(ENV) ROOT=$(ROOT) infra/deploy destroy

ci: ## What the build server runs.
	.ci/run

clean: ## Removes what was built and installed here.
	cargo clean
	rm -rf .tools
