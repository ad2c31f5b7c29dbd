# What the scripts share. Source it; it defines functions only.
# shellcheck shell=bash

# say WORDS: one line on the way.
say() { printf '%s\n' "$*" >&2; }

# die WORDS: what is wrong and what to do about it; ends the script.
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# have COMMAND: is it on the path?
have() { command -v "$1" >/dev/null 2>&1; }

# postgres_bin: the folder of PostgreSQL's server programs, the newest that is installed; nothing where there is none.
postgres_bin() {
  local found
  found=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
  [[ -n $found ]] || found=$(command -v initdb 2>/dev/null) || return 0
  dirname "$found"
}

# java_major: the major version of the Java on the path; 0 where there is none.
java_major() {
  local version
  have java || { echo 0; return; }
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  echo "${version:-0}"
}
