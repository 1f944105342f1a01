# Two commands to know: `make demo` shows what this does, `make test` says whether it works.

# Where `make demo` reads and writes. Yours may hold your own glue_data; the default gets made-up data.
BAM_DIR ?= target/demo
MODEL := pretrained_models/all-MiniLM-L6-v2

# Where rustup puts cargo, also before the shell has read its profile again.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help setup build demo cluster cluster-down images test test-long parity bench bench-operator gen fmt lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the build needs (Debian packages, libtorch); quick when it is there
	@scripts/setup.sh

build: setup ## build the release binaries
	RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/scripts/rustc.sh" cargo build --release --workspace

demo: build ## train two teachers and their student (BAM_DIR=folder for your own data)
ifeq ($(BAM_DIR),target/demo)
	@scripts/weights.sh "$(BAM_DIR)"
	@scripts/demo_data.py "$(BAM_DIR)"
else
	@test -e "$(BAM_DIR)/$(MODEL)" || scripts/weights.sh "$(BAM_DIR)"
endif
	target/release/bam run -f examples/rte-mrpc-bam.yaml --bam-dir "$(BAM_DIR)"

# With images of your own there is nothing to build.
cluster: $(if $(BAM_OPERATOR_IMAGE),,build) ## start a Kubernetes cluster here and install the operator; or install into that of KUBECONFIG
	@scripts/cluster.sh up
	@BAM_DIR="$(BAM_DIR)" scripts/cluster.sh install

images: build ## write the images of operator and trainer into target/images, for a registry of your own
	@scripts/cluster.sh archives target/images

cluster-down: ## end that cluster and remove all it left
	@scripts/cluster.sh down

test: ## everything that must hold before a commit: format, lints, all tests
	@scripts/test.sh

test-long: ## many faults at random, in a cluster for 30 minutes (MINUTES=N)
	@scripts/test.sh long $(MINUTES)

parity: setup ## compare the trainer with reference implementations in Python (large download)
	bash tests/parity/run.sh

bench: build ## measure the trainer beside transformers' Trainer (BAM_DIR=folder with GLUE's data; hours on 2 cores)
	BAM_DIR="$(BAM_DIR)" tests/bench/run.sh
	cargo bench -p bam-trainer

bench-operator: setup ## measure the operator with 10,000 experiments on an API server of its own (hours on 2 cores; EXPERIMENTS=N)
	tests/bench_operator/run.sh $(if $(EXPERIMENTS),--experiments $(EXPERIMENTS))

gen: ## write crds/*.yaml again from the types
	cargo run -q -p bam-crds --features kube --bin crdgen

fmt: ## format the code
	cargo fmt --all

lint: setup ## clippy, warnings are errors
	cargo clippy --workspace --all-targets -- -D warnings

clean: ## remove target/ (the cache of downloads stays)
	cargo clean
