#!/usr/bin/env bash
# All tests, against real servers: installs what is missing, starts the servers, runs the tests, and
# stops what it started, also when a test fails or the run is interrupted.
#
#   test.sh [--kafka3] [CARGO TEST ARGUMENTS]...    --kafka3: a Kafka of three nodes; default arguments: --workspace
#
# Where KAFKA_BROKERS, REDIS_URL or DATABASE_URL is given, that server is used and none is started.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

kafka=kafka
if [[ ${1:-} == --kafka3 ]]; then kafka=kafka3; shift; fi
(($# > 0)) || set -- --workspace

phase() { say "== $* (after $SECONDS s)"; }

phase "what is missing"
scripts/setup.sh test

services=()
[[ -n ${KAFKA_BROKERS:-} ]] || services+=("$kafka")
[[ -n ${REDIS_URL:-} ]] || services+=(redis)
[[ -n ${DATABASE_URL:-} ]] || services+=(postgres)

phase "building"
cargo build --locked -p event-streaming-app
cargo test --locked --no-run "$@"
# The end-to-end tests run the service as it is built for its users, not as a test build.
EVENT_STREAMING_BIN=$(realpath "${CARGO_TARGET_DIR:-target}")/debug/event-streaming
export EVENT_STREAMING_BIN

if ((${#services[@]} > 0)); then
  phase "starting ${services[*]}"
  trap 'scripts/services.sh down --for $$' EXIT
  trap 'exit 130' INT TERM
  scripts/services.sh up --for $$ "${services[@]}"
  while IFS='=' read -r name value; do
    [[ -n ${!name:-} ]] || export "$name=$value"
  done < <(scripts/services.sh env)
fi

phase "testing"
cargo test --locked --no-fail-fast "$@"
