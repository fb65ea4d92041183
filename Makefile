# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

tools := $(CURDIR)/.tools/venv/bin
export PATH := $(tools):$(PATH)

# A target given by name keeps `+crt-static` away from build scripts and procedural macros. Another than this machine's:
# `make static target=aarch64-unknown-linux-gnu`; docs/release.md says what that takes.
host := $(shell rustc -vV | sed -n 's/^host: //p')
target := $(host)
static := target/static$(if $(filter-out $(host),$(target)),-$(target))
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER ?= $(if $(filter aarch64-%,$(host)),cc,aarch64-linux-gnu-gcc)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER ?= $(if $(filter x86_64-%,$(host)),cc,x86_64-linux-gnu-gcc)
# No path of the machine is in what is built for the image: it is the same wherever that is done.
static_flags = -C target-feature=+crt-static --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo \
	--remap-path-prefix=$(CURDIR)=/source
version := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
shell_scripts = $(shell git grep -lE '^#!.*[/ ](bash|sh)$$' -- .ci release tests)

.PHONY: help
help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: setup
setup: ## Installs what tests and checks need (Debian packages; pinned tools in .tools/).
	tests/tools/setup

.PHONY: kubernetes
kubernetes: setup ## Builds the Kubernetes that tests run against, once; about ten minutes (needs Go).
	tests/kubernetes/build
	tests/kubernetes/snapshots/build
	tests/kubernetes/cert-manager/build

.PHONY: helm
helm: ## Builds the Helm that the chart is tested with, once; about two minutes (needs Go).
	tests/helm/build

.PHONY: cluster
cluster: kubernetes ## A control plane to play with, juicefs-sidecar installed; ctrl-C ends it.
	tests/kubernetes/cluster

.PHONY: test
test: setup ## Runs all tests.
	@# Without Go the tests that need it say that they are skipped; only the gate insists.
	tests/kubernetes/build || test -z "$$CI"
	tests/kubernetes/snapshots/build || test -z "$$CI"
	tests/kubernetes/cert-manager/build || test -z "$$CI"
	tests/helm/build || test -z "$$CI"
	cargo test --locked

.PHONY: chaos
chaos: kubernetes ## Pods are created while everything fails in turn, through ten rotations of the certificate; ten minutes.
	CHAOS_ROTATIONS=$${CHAOS_ROTATIONS:-10} cargo test --locked --test cluster chaos:: -- --nocapture

# Images of others are made once for each version of the script.
node_images = $(CURDIR)/.tools/node-images/$(shell sha256sum tests/kubernetes/images | cut -c1-16)

.PHONY: test-node
test-node: kubernetes agent ## Runs pods on a real node: kubelet, containerd, runc, the JuiceFS client (root, /dev/fuse; ten minutes).
	tests/tools/install-node
	test -e $(node_images)/done || { tests/kubernetes/images $(node_images) && touch $(node_images)/done; }
	tests/kubernetes/images $(node_images) docker.io/library/juicefs-sidecar:$(version) /jfs-agent=target/static/jfs-agent
	NODE_TESTS=$(node_images) cargo test --locked --test node -- --nocapture

.PHONY: test-programs
test-programs: setup ## Databases, git and tar on a mount through thirty upgrades and crashes; half an hour (root, /dev/fuse).
	AGENT_ROUNDS=$${AGENT_ROUNDS:-30} cargo test --locked --test agent programs:: -- --nocapture

# Of the tests in a cluster those that an older one can pass: it has no native sidecars, no ValidatingAdmissionPolicy, and
# of the engine over manifests nobody tells it how old the cluster is.
older_tests := registration:: injection::a_dry_run manifests::they_install manifests::components watching:: \
	check::a_pod_is_tried provision:: secrets:: support:: serve:: rights::
without_policies := registration::the_policy_warns

.PHONY: test-versions
test-versions: setup ## Runs tests in a cluster of Kubernetes 1.28, too, which is built once; fifteen minutes at first (needs Go).
	KUBERNETES_RELEASE=1.28 tests/kubernetes/build
	tests/kubernetes/snapshots/build
	KUBERNETES_RELEASE=1.28 CI=true cargo test --locked --test cluster -- $(older_tests) --skip $(without_policies)

.PHONY: golden
golden: setup ## Rewrites the expected files of tests/golden; read the diff before you commit it.
	UPDATE_GOLDEN=1 cargo test --locked --test golden

.PHONY: chart
chart: ## Makes the chart's values.yaml and docs/values.md of its values.schema.json.
	UPDATE_CHART=1 cargo test --locked --test cluster chart::values::what_is_made_of_the_schema_is_current

.PHONY: lint
lint: format-check clippy dependencies files-check ## Runs every check that is not a test.

.PHONY: format
format: ## Formats the code.
	cargo fmt
	cargo fmt --manifest-path tests/fuzz/Cargo.toml

.PHONY: format-check
format-check:
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml

.PHONY: clippy
clippy: ## Lints the code: everything, the agent alone, and the fuzz target.
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib --bins -- -D warnings
	cargo clippy --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target -- -D warnings

.PHONY: dependencies
dependencies: setup ## Checks dependencies: unused, banned, licences, sources, yanked, vulnerable.
	cargo shear
	cargo deny --locked check bans licenses sources
	tests/tools/check-advisories

.PHONY: files-check
files-check: setup ## Lints shell scripts, the Dockerfile, workflows and spelling.
	shellcheck -x $(shell_scripts)
	hadolint Dockerfile
	"$$(release/tool actionlint)" .github/workflows/*.yml
	typos

.PHONY: agent
agent: ## Builds the agent as the image has it, static and stripped, into target/static/.
	RUSTFLAGS='$(static_flags) -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--no-eh-frame-hdr' cargo build --locked --profile agent --target $(target) \
		--no-default-features --bin jfs-agent
	mkdir -p $(static)
	cp target/$(target)/agent/jfs-agent $(static)/

# The names and versions of the crates are in the program, where scanners of images look for them.
.PHONY: static
static: agent ## Builds both binaries as the image has them, static and stripped, into target/static/.
	auditable=$$(release/tool cargo-auditable); RUSTFLAGS='$(static_flags)' \
		"$$auditable" auditable build --locked --release --target $(target) --bin juicefs-sidecar
	cp target/$(target)/release/juicefs-sidecar $(static)/

.PHONY: static-check
static-check: static ## Checks that the binaries are static, small, and run where nothing else is.
	tests/tools/check-static target/static/juicefs-sidecar target/static/jfs-agent

.PHONY: version
version:
	@echo $(version)

# Architectures by the names that images have, and what they are to the compiler.
target_amd64 := x86_64-unknown-linux-gnu
target_arm64 := aarch64-unknown-linux-gnu
PLATFORMS ?= $(if $(filter aarch64-%,$(host)),arm64,amd64)
binaries = $(foreach platform,$(PLATFORMS),$(platform)=target/static$(if $(filter-out $(host),$(target_$(platform))),-$(target_$(platform))))

.PHONY: binaries
binaries:
	for platform in $(foreach platform,$(PLATFORMS),$(target_$(platform))); do $(MAKE) static target=$$platform; done

.PHONY: image
image: binaries ## Makes the image in target/image/, without a daemon (PLATFORMS="amd64 arm64": docs/release.md).
	release/image target/image $(binaries)

.PHONY: image-check
image-check: binaries ## Makes the image twice and checks it: the same, small, without root, its crates listed, it runs.
	release/check-image target/image $(binaries)

.PHONY: release
release: static-check image-check ## Makes all files of a release in target/release-files/, to be had at URL.
	release/files target/release-files target/image "$${URL:?where the files will be}" $(binaries)

# Instrumented crates and plain ones do not share a directory.
.PHONY: fuzz-build
fuzz-build: ## Builds the fuzz target (five minutes at first, on two cores).
	RUSTC_WRAPPER=$(CURDIR)/tests/fuzz/instrument cargo build --locked --manifest-path tests/fuzz/Cargo.toml \
		--target-dir target/fuzz --profile fuzz

.PHONY: fuzz
fuzz: fuzz-build ## Fuzzes the admission answer with any bytes; FUZZ_SECONDS bounds it.
	mkdir -p target/fuzz/corpus tests/fuzz/artifacts
	target/fuzz/fuzz/review -max_total_time=$${FUZZ_SECONDS:-60} -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
		-artifact_prefix=tests/fuzz/artifacts/ target/fuzz/corpus tests/fuzz/corpus/review

.PHONY: bench
bench: ## Compares our path with the generic one (typed pod, diff) on the recorded reviews.
	cargo bench --locked --bench admission

.PHONY: load
load: ## Loads `webhook --manifests` over TLS: requests/s, p50, p99, memory.
	cargo bench --locked --bench load

.PHONY: bench-cluster
bench-cluster: kubernetes ## Measures the program in a cluster of ten thousand claims against its bars; two minutes.
	cargo bench --locked --bench cluster

.PHONY: bench-client
bench-client: setup agent ## Compares a client beside the agent with one that mounts by itself, at the same work; two minutes (root).
	JFS_AGENT=$(CURDIR)/$(static)/jfs-agent cargo bench --locked --no-default-features --bench client

.PHONY: bench-provision
bench-provision: kubernetes ## Measures the controller among claims, with the real client, against its bars; five minutes.
	cargo bench --locked --bench provision
