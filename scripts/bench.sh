#!/usr/bin/env bash
# The benches, in release builds, beside raw clients on a real Kafka of one node.
#
#   bench.sh [--peers] [ARGUMENTS]...    ARGUMENTS go to the bench program; so does --peers
#
# With --only the bench program alone is run, and not the benches of the embedded log's append and of its
# tables' claims, which are beside their crate. Where KAFKA_BROKERS is given, that Kafka is used and none is started.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

scripts/setup.sh test

say "building the service and the benches (release)…"
cargo build --release --locked -p event-streaming-app -p event-streaming-bench

# Before any server is up: they take the disk and both cores for themselves.
if [[ " $* " != *" --only"* ]]; then
  cargo bench --locked -p event-streaming-adapters-embedded --bench append --bench claims
  cargo bench --locked -p event-streaming-domain --bench core
fi

if [[ -z ${KAFKA_BROKERS:-} ]]; then
  trap 'scripts/services.sh down --for $$' EXIT
  trap 'exit 130' INT TERM
  SERVICES_KAFKA_HEAP=${SERVICES_KAFKA_HEAP:-1g} scripts/services.sh up --for $$ kafka redis
fi
# Its address, and the jars that Kafka's own ProducerPerformance is in.
while IFS='=' read -r name value; do
  [[ -n ${!name:-} ]] || export "$name=$value"
done < <(scripts/services.sh env)

PATH=$here/../.services/bin:$PATH "${CARGO_TARGET_DIR:-target}/release/event-streaming-bench" "$@"
