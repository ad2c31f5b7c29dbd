#!/usr/bin/env bash
# Installs what a target needs and this machine has not, one line each; nothing where nothing is missing.
#
#   setup.sh demo     what the embedded build needs
#   setup.sh test     that, the Kafka client's libraries, and the servers the tests run against
#   setup.sh tools    grpcurl, by `go install`, into .services/bin (a part of `test`: the README is run as written)
#   setup.sh clients  clients of schema registries, by pip and npm, into .services/clients (a part of `test`)
#   setup.sh peers    nats-server and its benchmark, by `go install`, into .services/bin
#
# Debian's own Redis and PostgreSQL daemons are not started by it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

packages=()

# want PACKAGE WHY: unless the check that stands in front of it holds.
want() {
  say "installing $1 ($2)…"
  packages+=("$1")
}

# The headers may come from elsewhere than a package: ask the compiler's own tools.
have_library() { have pkg-config && pkg-config --exists "$1"; }

want_demo() {
  have cargo || die "Rust is not here: see https://rustup.rs, then run this again"
  have cc || want gcc "the linker, and a memory allocator in C"
  [[ -n $(find /usr/include /usr/local/include -name stdlib.h -print -quit 2>/dev/null) ]] || want libc6-dev "the C library's headers"
}

want_test() {
  want_demo
  have make || want make "builds the Kafka client"
  have g++ || want g++ "builds the Kafka client"
  have pkg-config || want pkg-config "finds the Kafka client's libraries"
  have_library openssl || want libssl-dev "the Kafka client's TLS"
  have curl || want curl "the examples of the README are run as written"
  have redis-server || want redis-server "tests run against a real Redis"
  [[ -n $(postgres_bin) ]] || want postgresql "tests run against a real PostgreSQL"
  have mvn || want maven "fetches Kafka's jars"
  (($(java_major) >= 17)) || want openjdk-17-jre-headless "runs Kafka"
  have setsid || want util-linux "starts servers apart from the terminal"
  want_clients
  have go || have_tool grpcurl || want golang-go "builds grpcurl"
}

want_clients() {
  # Debian's Python comes without what makes an environment.
  python3 -c 'import ensurepip, venv' 2>/dev/null || want python3-venv "runs Confluent's Python client"
  have node || want nodejs "runs Confluent's JavaScript client"
  have npm || want npm "fetches Confluent's JavaScript client"
}

# install: what was wanted, in one call, without starting daemons.
install_wanted() {
  ((${#packages[@]} > 0)) || return 0
  have apt-get || die "this machine has no apt-get: install by its own means what stands for Debian's ${packages[*]}"
  local root=()
  if ((EUID != 0)); then
    have sudo || die "installing needs root, or sudo: as root, run: apt-get install ${packages[*]}"
    root=(sudo)
  fi
  local log
  log=$(mktemp)
  hold_daemons "${root[@]}"
  # Package lists older than what the mirror holds make the first try fail.
  if ! apt "${root[@]}" >"$log" 2>&1; then
    say "bringing the package lists up to date…"
    if ! "${root[@]}" apt-get -q update >>"$log" 2>&1 || ! apt "${root[@]}" >>"$log" 2>&1; then
      tail -n 15 "$log" >&2
      die "apt-get could not install ${packages[*]} (its words are above): install them by hand, or mend its sources, and run this again"
    fi
  fi
  rm -f "$log"
}

apt() { "$@" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${packages[@]}"; }

# hold_daemons [sudo]: Debian asks this file whether a package may start its daemon. 101 is no.
hold_daemons() {
  local policy=/usr/sbin/policy-rc.d
  [[ ! -e $policy ]] || return 0
  printf '#!/bin/sh\nexit 101\n' | "$@" tee "$policy" >/dev/null
  "$@" chmod 755 "$policy"
  # shellcheck disable=SC2064 # expanded now, on purpose
  trap "$* rm -f $policy" EXIT
}

have_tool() { [[ -x $here/../.services/bin/$1 ]] || have "$1"; }

# go_tool COMMAND MODULE@VERSION WHY
go_tool() {
  if have_tool "$1"; then return 0; fi
  have go || die "$1 is not here ($3), and Go, which would build it, neither: install Go (https://go.dev/dl; Debian: apt-get install golang-go), or $1 itself, and run this again"
  say "installing $1 ($3)…"
  mkdir -p "$here/../.services/bin"
  GOBIN=$(cd "$here/../.services/bin" && pwd) go install "$2" >"$here/../.services/go.log" 2>&1 || {
    tail -n 15 "$here/../.services/go.log" >&2
    die "go could not install $1 (its words are above): install $1 by hand, and run this again"
  }
}

# The newest that Debian's Go still builds.
install_grpcurl() { go_tool grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.1 "gRPC from the command line"; }

# filled FOLDER LIST: was it filled by this list, to the end? Whatever fills it leaves a copy of the list there last.
filled() { cmp -s "$2" "$1/filled-by"; }

# fill FOLDER LIST REGISTRY WHAT COMMAND...: once a list. COMMAND fills the empty folder.
fill() {
  local folder=$1 list=$2 registry=$3 what=$4
  shift 4
  if filled "$folder" "$list"; then return 0; fi
  say "installing $what…"
  rm -rf "$folder"
  mkdir -p "$folder"
  "$@" "$folder" "$list" >"$folder.log" 2>&1 || {
    tail -n 15 "$folder.log" >&2
    die "$what could not be installed (the last words of $folder.log are above): see that $registry can be reached, and run this again"
  }
  cp "$list" "$folder/filled-by"
}

by_pip() {
  python3 -m venv "$1" &&
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --requirement "$2"
}

# No package's scripts are needed: what they would fetch or build is used by none of the tests.
by_npm() {
  cp "$2" "$(dirname "$2")/package.json" "$1/" &&
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

install_clients() {
  local pinned=$here/../tests/clients clients
  mkdir -p "$here/../.services/clients"
  clients=$(cd "$here/../.services/clients" && pwd -P)
  fill "$clients/python" "$pinned/python/requirements.txt" PyPI "Confluent's Python client" by_pip
  fill "$clients/node" "$pinned/node/package-lock.json" "the npm registry" "Confluent's JavaScript client" by_npm
}

case ${1:-} in
  demo) want_demo; install_wanted ;;
  test) want_test; install_wanted; install_grpcurl; install_clients ;;
  tools) install_grpcurl ;;
  clients) want_clients; install_wanted; install_clients ;;
  peers)
    go_tool nats-server github.com/nats-io/nats-server/v2@v2.15.2 "the peer of the embedded log"
    go_tool nats github.com/nats-io/natscli/nats@v0.5.1 "the peer's benchmark"
    ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
