#!/usr/bin/env bash
# Starts, checks and stops the real servers that tests and benches talk to: Kafka, Redis and
# PostgreSQL, on loopback, on ports of the project's own, without Docker. Everything they write is in
# .services/ of the checkout: the jars stay there between runs, the data goes at `down`.
#
#   services.sh up [--for PID] [kafka|kafka3|redis|postgres]...   start what is not up yet; all but kafka3 when none is named
#   services.sh down            stop all of them and remove their data
#   services.sh down --for PID  take back what PID asked for; stop all when that was the last who asked
#   services.sh status          what is up; exit 1 when nothing is
#   services.sh env             the addresses of what is up, as lines of NAME=value; KAFKA_CLASSPATH has Kafka's own tools
#   services.sh kill NODE       SIGKILL one of kafka-1, kafka-2, kafka-3, redis, postgres; its data stays
#   services.sh start NODE      start it again on that data
#
# With --for, what was started is stopped by itself a few seconds after the process PID has ended,
# unless another one asked for it too, or somebody said `up` without --for.
#
# Environment: SERVICES_KAFKA_PORT (27092; node N listens on this + N - 1, its controller 100 above),
# SERVICES_REDIS_PORT (27379), SERVICES_POSTGRES_PORT (27432), SERVICES_DIR (.services),
# SERVICES_KAFKA_HEAP (512m), SERVICES_CACHE (.services: where the jars are kept), SERVICES_GRACE_S
# (10: how long --for outlives its process, so that the next one need not start anew).
#
# A process is known by its pid file AND by the path of our own configuration in its command line;
# nothing else is ever signalled.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

dir=${SERVICES_DIR:-$here/../.services}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)
cache=${SERVICES_CACHE:-$here/../.services}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd -P)
run=$dir/run
leases=$dir/leases

kafka_port=${SERVICES_KAFKA_PORT:-27092}
redis_port=${SERVICES_REDIS_PORT:-27379}
postgres_port=${SERVICES_POSTGRES_PORT:-27432}
kafka_heap=${SERVICES_KAFKA_HEAP:-512m}
host=127.0.0.1
lease_grace_s=${SERVICES_GRACE_S:-10}
before='' # the nodes that were there when `up` began

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

# --- processes ---------------------------------------------------------------------------------

# ended PID: is it gone, or a zombie that nobody has reaped yet?
ended() {
  local state
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
  [[ -z $state || $state == [ZX] ]]
}

# alive NODE: is the process of the pid file there, and is it the one that we started?
alive() {
  local pid mark line tries=0
  { pid=$(<"$run/$1/pid") && mark=$(<"$run/$1/mark"); } 2>/dev/null || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  until line=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline") && [[ -n $line ]]; do
    # In the moment of an exec it has none. A thread of the kernel, which the number may have gone to,
    # never has one.
    if ended "$pid" || ((++tries > 100)); then return 1; fi
    sleep 0.01
  done
  grep -qxF -- "$mark" <<<"$line"
}

# spawn NODE MARK COMMAND...: start it in a session of its own, so that Ctrl-C at a terminal is ours
# to handle. MARK is an argument of the command that no other process has. The lock is not inherited.
spawn() {
  local node=$1 mark=$2
  shift 2
  printf '%s\n' "$mark" >"$run/$node/mark"
  setsid "$@" >>"$run/$node/log" 2>&1 </dev/null 9>&- &
  printf '%s\n' "$!" >"$run/$node/pid"
  # Until it has become that command it is a copy of this script, which `alive` does not know.
  until alive "$node" || ended "$!"; do sleep 0.01; done
}

# await NODE SECONDS CHECK...: until the check holds; dies with the log's end when the process does.
await() {
  local node=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@"; do
    alive "$node" || fail "$node" "ended while starting"
    ((SECONDS < deadline)) || fail "$node" "was not ready in time"
    sleep 0.1
  done
}

# fail NODE WHAT: with the log's end; the log itself outlives what `abandon` removes.
fail() {
  say "--- the end of its log:"
  tail -n 20 "$run/$1/log" >&2 || true
  cp "$run/$1/log" "$dir/failed-$1.log" || true
  die "$1 $2; its log's end is above, all of it is $dir/failed-$1.log"
}

# signal NODE SIGNAL: only ever what `alive` knows.
signal() { if alive "$1"; then kill "-$2" "$(<"$run/$1/pid")" 2>/dev/null || true; fi; }

# stop NODE SIGNAL: and wait for its end and its children's; SIGKILL after ten seconds.
stop() {
  local node=$1 deadline=$((SECONDS + 10)) children='' child
  alive "$node" || return 0
  children=$(cat "/proc/$(<"$run/$node/pid")/task/"*/children 2>/dev/null || true)
  signal "$node" "$2"
  while alive "$node"; do
    ((SECONDS < deadline)) || { signal "$node" KILL; deadline=$((SECONDS + 10)); }
    sleep 0.05
  done
  # PostgreSQL's notice by themselves that their parent is gone.
  for child in $children; do
    while [[ -n $(tr -d '\0' 2>/dev/null <"/proc/$child/cmdline") ]] && ((SECONDS < deadline)); do sleep 0.05; done
  done
}

listening() { (exec 3<>"/dev/tcp/$host/$1") 2>/dev/null; }

# free PORT FOR VARIABLE
free() {
  ! listening "$1" || die "port $1 (for $2) is in use by another process: stop that, or choose another port by $3=PORT"
}

# --- kafka -------------------------------------------------------------------------------------

kafka_nodes() { cat "$run/kafka.nodes" 2>/dev/null || echo 0; }
kafka_client_port() { echo $((kafka_port + $1 - 1)); }
kafka_controller_port() { echo $((kafka_port + 100 + $1 - 1)); }

kafka_brokers() {
  local i list=()
  for ((i = 1; i <= $(kafka_nodes); i++)); do list+=("$host:$(kafka_client_port "$i")"); done
  (IFS=,; echo "${list[*]}")
}

# The jars, fetched once a version. A half-fetched folder never gets the final name.
kafka_lib() {
  local version lib
  version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/kafka/pom.xml")
  lib=$cache/kafka-$version
  if [[ ! -d $lib ]]; then
    have mvn || die "Maven is needed once, to fetch Kafka's jars: run scripts/setup.sh test, or install it (Debian: apt-get install maven)"
    say "fetching the jars of Kafka $version from Maven Central (about 55 MB, once)…"
    rm -rf "$lib.part"
    mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$lib.part" >&2 ||
      die "Maven could not fetch Kafka's jars (its words are above): check the network and try again"
    mv "$lib.part" "$lib"
  fi
  echo "$lib"
}

# Fills `kafka_java` with the command up to the main class.
kafka_java=()
kafka_command() {
  local lib
  lib=$(kafka_lib)
  kafka_java=(java "-Xmx$kafka_heap" -XX:+UseG1GC "-Dlog4j2.configurationFile=$here/kafka/log4j2.xml" -cp "$lib/*")
}

# kafka_configure I N
kafka_configure() {
  local i=$1 n=$2 j voters=() isr=1
  for ((j = 1; j <= n; j++)); do voters+=("$j@$host:$(kafka_controller_port "$j")"); done
  ((n < 3)) || isr=2
  mkdir -p "$run/kafka-$i"
  cat >"$run/kafka-$i/server.properties" <<P
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$(IFS=,; echo "${voters[*]}")
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$host:$(kafka_client_port "$i"),CONTROLLER://$host:$(kafka_controller_port "$i")
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$run/kafka-$i/data
num.partitions=3
default.replication.factor=$n
min.insync.replicas=$isr
offsets.topic.replication.factor=$n
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$n
transaction.state.log.min.isr=$isr
share.coordinator.state.topic.replication.factor=$n
share.coordinator.state.topic.min.isr=$isr
auto.create.topics.enable=false
unclean.leader.election.enable=false
# So that a node or a member that was killed is noticed within a test's patience.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
P
}

# kafka_sees I N: does node I answer a Metadata request (version 4, no topics), and name N brokers?
# The answer is size, correlation id, throttle time, number of brokers, each an i32.
kafka_sees() {
  local answer
  # shellcheck disable=SC2016
  answer=$(timeout 2 bash -c '
    exec 3<>"/dev/tcp/$0/$1"
    printf "\0\0\0\17\0\3\0\4\0\0\0\1\377\377\0\0\0\0\0" >&3
    head -c 16 <&3 | od -An -v -tu1 -w16' "$host" "$(kafka_client_port "$1")" 2>/dev/null) || return 1
  # shellcheck disable=SC2206
  local bytes=($answer)
  ((${#bytes[@]} == 16 && bytes[15] == $2))
}

kafka_start() {
  kafka_command
  spawn "kafka-$1" "$run/kafka-$1/server.properties" "${kafka_java[@]}" kafka.Kafka "$run/kafka-$1/server.properties"
}

kafka_up() {
  local n=$1 i has id formats=() pid
  has=$(kafka_nodes)
  if ((has > 0)); then
    ((has >= n)) || die "a Kafka of one node is up and three are wanted: run scripts/services.sh down first"
    for ((i = 1; i <= has; i++)); do alive "kafka-$i" || die "kafka-$i is down: run scripts/services.sh start kafka-$i, or down"; done
    n=$has
  else
    (($(java_major) >= 17)) || die "Kafka needs Java 17 or newer on the path: run scripts/setup.sh test, or install a JDK (Debian: apt-get install openjdk-17-jdk-headless)"
    for ((i = 1; i <= n; i++)); do
      free "$(kafka_client_port "$i")" Kafka SERVICES_KAFKA_PORT
      free "$(kafka_controller_port "$i")" "Kafka's controller" SERVICES_KAFKA_PORT
    done
    kafka_command
    # Any 16 bytes in Kafka's base 64.
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
    id=K${id:1}
    for ((i = 1; i <= n; i++)); do
      kafka_configure "$i" "$n"
      "${kafka_java[@]}" kafka.tools.StorageTool format -t "$id" -c "$run/kafka-$i/server.properties" >"$run/kafka-$i/log" 2>&1 9>&- &
      formats+=("$!")
    done
    i=0
    for pid in "${formats[@]}"; do
      i=$((i + 1))
      wait "$pid" || fail "kafka-$i" "could not format its data folder"
    done
    printf '%s\n' "$n" >"$run/kafka.nodes"
    for ((i = 1; i <= n; i++)); do kafka_start "$i"; done
  fi
  for ((i = 1; i <= n; i++)); do await "kafka-$i" 90 kafka_sees "$i" "$n"; done
}

# --- redis -------------------------------------------------------------------------------------

redis_start() {
  spawn redis "$run/redis/redis.conf" redis-server "$run/redis/redis.conf"
}

redis_answers() { [[ $(redis-cli -h "$host" -p "$redis_port" ping 2>/dev/null) == PONG ]]; }

redis_up() {
  if [[ ! -d $run/redis ]]; then
    have redis-server || die "redis-server is not installed: run scripts/setup.sh test, or install it (Debian: apt-get install redis-server)"
    free "$redis_port" Redis SERVICES_REDIS_PORT
    mkdir -p "$run/redis"
    # What state kept in Redis needs: an append-only file, and nothing evicted. The title stays the
    # command line, by which we know the process.
    cat >"$run/redis/redis.conf" <<P
bind $host
port $redis_port
dir "$run/redis"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
set-proc-title no
P
    redis_start
  fi
  alive redis || die "redis is down: run scripts/services.sh start redis, or down"
  await redis 30 redis_answers
}

# --- postgres ----------------------------------------------------------------------------------

# PostgreSQL refuses to run as root; then it runs as its own user, or as nobody.
postgres_user() {
  if getent passwd postgres >/dev/null; then echo postgres; else echo nobody; fi
}

# as_postgres COMMAND...: by exec, so that a process id stays what it was.
as_postgres=()
if ((EUID == 0)); then
  as_postgres=(setpriv "--reuid=$(postgres_user)" "--regid=$(id -g "$(postgres_user)")" --clear-groups --)
fi

postgres_start() {
  local data bin
  data=$(<"$run/postgres/data-dir")
  bin=$(postgres_bin)
  # After a SIGKILL its lock file stays, and names a process that may still wait to be reaped.
  rm -f "$data/postmaster.pid"
  cd "$data"
  spawn postgres "$data" "${as_postgres[@]}" "$bin/postgres" -D "$data" -h "$host" -p "$postgres_port" -k "" -c max_connections=200
  cd - >/dev/null
}

postgres_answers() {
  local bin
  bin=$(postgres_bin)
  "$bin/pg_isready" -q -h "$host" -p "$postgres_port" -U event_streaming
}

postgres_up() {
  local bin data
  if [[ ! -d $run/postgres ]]; then
    bin=$(postgres_bin)
    [[ -n $bin ]] || die "PostgreSQL's server is not installed: run scripts/setup.sh test, or install it (Debian: apt-get install postgresql)"
    free "$postgres_port" PostgreSQL SERVICES_POSTGRES_PORT
    mkdir -p "$run/postgres"
    data=$run/postgres/data
    # The other user may have no way into a checkout under /root.
    if ((EUID == 0)) && ! "${as_postgres[@]}" test -x "$run/postgres"; then
      data=$(mktemp -d "${TMPDIR:-/tmp}/event-streaming-postgres.XXXXXXXX")
    fi
    mkdir -p "$data"
    printf '%s\n' "$data" >"$run/postgres/data-dir"
    ((EUID != 0)) || chown "$(postgres_user)" "$data"
    chmod 700 "$data"
    (cd / && "${as_postgres[@]}" "$bin/initdb" -D "$data" -U event_streaming -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions) \
      >"$run/postgres/log" 2>&1 || fail postgres "could not be initialised"
    postgres_start
    await postgres 30 postgres_answers
    "$bin/createdb" -h "$host" -p "$postgres_port" -U event_streaming event_streaming
  fi
  alive postgres || die "postgres is down: run scripts/services.sh start postgres, or down"
  await postgres 30 postgres_answers
}

# --- leases: who asked by --for -----------------------------------------------------------------

# held: does a process that asked by --for still live?
held() {
  local lease
  for lease in "$leases"/*; do
    [[ -e $lease ]] || continue
    if kill -0 "${lease##*/}" 2>/dev/null; then return 0; fi
    rm -f "$lease"
  done
  return 1
}

# watch: runs beside what was started by --for, until it is not needed or somebody claims it.
watch_leases() {
  local unused=0
  exec 9>"$dir/lock"
  while [[ -d $run && ! -e $dir/manual ]]; do
    sleep 1
    if held; then unused=0; continue; fi
    unused=$((unused + 1))
    if ((unused >= lease_grace_s)) && flock -n 9; then
      # Somebody may have come while we waited for the lock.
      if [[ -e $dir/manual ]] || held; then flock -u 9; unused=0; continue; fi
      down
      return
    fi
  done
}

# --- commands ----------------------------------------------------------------------------------

up() {
  local owner='' services=() service began=$SECONDS
  while (($# > 0)); do
    case $1 in
      --for) owner=${2:?--for needs a process id}; shift 2 ;;
      kafka | kafka3 | redis | postgres) services+=("$1"); shift ;;
      *) usage >&2; die "no such service: $1" ;;
    esac
  done
  ((${#services[@]} > 0)) || services=(kafka redis postgres)
  [[ -z $owner ]] || kill -0 "$owner" 2>/dev/null || die "--for $owner: no such process"

  # After a reboot, or when all were killed, only their folders are left.
  if [[ -d $run ]] && ! any_alive; then
    say "nothing lives of what was up before: its data is removed"
    down
  fi
  local fresh=0
  [[ -d $run ]] || fresh=1
  mkdir -p "$run" "$leases"
  [[ -z $owner ]] || touch "$leases/$owner"
  # A start that fails leaves nothing of its own behind, but what had been up stays.
  before=$(node_list)
  trap abandon EXIT
  for service in "${services[@]}"; do
    case $service in
      kafka) kafka_up 1 ;;
      kafka3) kafka_up 3 ;;
      redis) redis_up ;;
      postgres) postgres_up ;;
    esac
  done
  trap - EXIT
  [[ -n $owner ]] || touch "$dir/manual"
  if [[ -n $owner && ! -e $dir/manual ]] && ((fresh)); then
    setsid "${BASH_SOURCE[0]}" watch >/dev/null 2>&1 </dev/null 9>&- &
  fi
  say "up after $((SECONDS - began)) s: $(node_list | tr '\n' ' ')"
}

# The nodes that have been configured, up or killed.
node_list() {
  local node
  for node in "$run"/*/; do [[ -d $node ]] && basename "$node"; done
  return 0
}

any_alive() {
  local node
  for node in $(node_list); do if alive "$node"; then return 0; fi; done
  return 1
}

remove_node() {
  local data
  case $1 in postgres) stop "$1" QUIT ;; *) stop "$1" KILL ;; esac # the data goes: no need to ask nicely
  data=$(cat "$run/$1/data-dir" 2>/dev/null || true)
  [[ -z $data ]] || rm -rf "$data"
  rm -rf "${run:?}/$1"
}

# abandon: stop what this `up` began.
abandon() {
  local node
  for node in $(node_list); do
    if grep -qxF "$node" <<<"$before"; then continue; fi
    remove_node "$node"
    [[ $node != kafka-* ]] || rm -f "$run/kafka.nodes"
  done
  [[ -n $(node_list) ]] || rm -rf "$run" "$leases" "$dir/manual"
}

down() {
  local node
  if [[ ${1:-} == --for ]]; then
    rm -f "$leases/${2:?--for needs a process id}"
    if [[ -e $dir/manual ]] || held; then return; fi
  fi
  for node in $(node_list); do remove_node "$node"; done
  rm -rf "$run" "$leases" "$dir/manual"
}

status() {
  local node found=1
  for node in $(node_list); do
    if alive "$node"; then
      echo "$node up (pid $(<"$run/$node/pid"))"
      found=0
    else
      echo "$node down"
    fi
  done
  ((found == 0)) || echo "nothing is up"
  return "$found"
}

# env: exported addresses of what is configured.
print_env() {
  if (($(kafka_nodes) > 0)); then
    echo "KAFKA_BROKERS=$(kafka_brokers)"
    echo "KAFKA_CLASSPATH=$(kafka_lib)/*"
  fi
  [[ ! -d $run/redis ]] || echo "REDIS_URL=redis://$host:$redis_port/0"
  [[ ! -d $run/postgres ]] || echo "DATABASE_URL=postgres://event_streaming@$host:$postgres_port/event_streaming"
}

known() { [[ -n ${1:-} && -d $run/$1 ]] || die "no such node: ${1:-(none named)}; there is: $(node_list | tr '\n' ' ')"; }

start_node() {
  known "$1"
  if alive "$1"; then return; fi
  case $1 in
    kafka-*) kafka_start "${1#kafka-}"; await "$1" 90 kafka_sees "${1#kafka-}" "$(kafka_live)" ;;
    redis) redis_start; await redis 30 redis_answers ;;
    postgres) postgres_start; await postgres 60 postgres_answers ;;
  esac
}

# How many Kafka nodes live: a restarted one is ready when it sees these.
kafka_live() {
  local i n=0
  for ((i = 1; i <= $(kafka_nodes); i++)); do if alive "kafka-$i"; then n=$((n + 1)); fi; done
  echo "$n"
}

case ${1:-} in
  up | down | kill | start)
    exec 9>"$dir/lock"
    flock -w 300 9 || die "another scripts/services.sh has been at work for five minutes; look for it with: fuser $dir/lock"
    ;;
esac

case ${1:-} in
  up) shift; up "$@" ;;
  down) shift; down "$@" ;;
  status) status ;;
  env) print_env ;;
  kill) known "${2:-}"; stop "$2" KILL ;;
  start) start_node "${2:-}" ;;
  watch) watch_leases ;;
  -h | --help | help) usage ;;
  *) usage >&2; exit 2 ;;
esac
