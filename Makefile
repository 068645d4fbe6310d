# The two commands that matter are `make demo` and `make test`; each installs what it needs and does nothing twice.
.DEFAULT_GOAL := help
.PHONY: help demo picture test lint bench bench-peers bench-prototype bench-cold bench-paced bench-load bench-signin lab lab-short build install

BUILD_PACKAGES := build-essential pkg-config libclang-dev libavcodec-dev libavformat-dev libavutil-dev libswscale-dev
TEST_PACKAGES := faketime iproute2 iputils-ping procps strace xvfb libgl1 libglib2.0-0
LAB_PACKAGES := iproute2 procps nginx-light curl aria2 ffmpeg
PEERS_PACKAGES := nginx-light curl aria2 srt-tools ethtool iproute2 procps
DEMO_PACKAGES := ffmpeg python3-venv

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## publish a film (VIDEO=path, or a made clip), fetch and play it from three servers, kill one in the middle
	@.ci/install $(BUILD_PACKAGES) $(DEMO_PACKAGES)
	@.ci/compile
	@.ci/venv
	@.ci/demo

picture: demo ## what README shows of a killed server, drawn anew by the demo: docs/killed-server.svg
	@cp target/demo-fetch.svg docs/killed-server.svg

test: install lint ## all checks and tests, then their counts
	@.ci/test

lint: install ## formatting, clippy and documentation, with warnings as errors
	@cargo fmt --all --check
	@cargo clippy --release --quiet --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" cargo doc --release --quiet --workspace --no-deps --document-private-items

bench: install ## criterion benches: bytes and pictures per second end to end, sealing, opening, answering, look-ups
	@cargo build --release --quiet --workspace
	@cargo bench --package braidcast-benches

bench-peers: ## braidcast beside nginx, aria2, QUIC and SRT: times, CPU and goals, about ten minutes; PEERS="--short" for less
	@.ci/install $(BUILD_PACKAGES) $(PEERS_PACKAGES)
	@cargo build --release --quiet --package braidcast-cli --package braidcast-av --package braidcast-peers
	@target/release/braidcast-peers $(PEERS)

bench-prototype: target/prototype-venv/installed ## its Python package beside the Python prototype, in frames/s, two minutes; PROTOTYPE="--short"
	@.ci/venv
	@target/venv/bin/python benches/prototype/compare.py $(PROTOTYPE)

target/prototype-venv/installed: benches/prototype/requirements.txt | install
	@$${PYTHON:-python3.11} -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench-cold: ## a server whose files are on the disk and not in memory: a minute; COLD="--rounds 9"
	@.ci/install $(BUILD_PACKAGES)
	@cargo build --release --quiet --package braidcast-cli --package braidcast-av --package braidcast-peers
	@target/release/braidcast-peers --cold $(COLD)

bench-paced: ## server CPU per GB, 200 viewers at 10 Mbit/s beside 200 curls from nginx: four minutes; PACED="--rounds 9"
	@.ci/install $(BUILD_PACKAGES) $(PEERS_PACKAGES)
	@cargo build --release --quiet --package braidcast-cli --package braidcast-av --package braidcast-load --package braidcast-peers
	@target/release/braidcast-peers --paced $(PACED)

bench-load: ## 1,000 viewers on one server thread, beside a cold one too, then 200 beside 200 greedy ones: three minutes; LOAD="--seconds 60"
	@.ci/install $(BUILD_PACKAGES)
	@cargo build --release --quiet --package braidcast-cli --package braidcast-av --package braidcast-load
	@code=0; for crowd in "--cold" "--viewers 200 --greedy 200"; do \
		target/release/braidcast-load $$crowd $(LOAD) || code=$$?; test $$code -ne 130 || break; \
	done; exit $$code

bench-signin: ## honest sign-ins beside 30 false ones a second, from other addresses and from their own: a minute and a half; SIGNIN="--rate 300"
	@.ci/install $(BUILD_PACKAGES)
	@cargo build --release --quiet --package braidcast-cli --package braidcast-signin
	@target/release/braidcast-signin $(SIGNIN)

lab: ## braidcast beside curl and aria2c over bad links, with real sockets: about an hour; LAB="--only NAME" for a part
	@.ci/install $(BUILD_PACKAGES) $(LAB_PACKAGES)
	@cargo build --release --quiet --package braidcast-cli --package braidcast-av --package braidcast-lab
	@target/release/braidcast-lab $(LAB)

lab-short: ## a few of its scenarios, without curl and aria2c: about two minutes
	@$(MAKE) --no-print-directory lab LAB="--short $(LAB)"

build: install ## the `braidcast` command, in target/release
	@cargo build --release --workspace

install:
	@.ci/install $(BUILD_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES)
