# shellcheck shell=bash
# Superset and what it needs, as processes on loopback.  Sourced by `run`; the
# driver also calls `bash stack.sh start_replica PORT` to bring a killed one back.
#
# All state lies under $STACK_DIR: venv, postgres, redis, home, tls, log, pid, and
# the files secrets (made once), ports (of the running stack) and env.

STACK_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STACK_DIR=${SUPERSET_TEST_DIR:-${TMPDIR:-/tmp}/sluicegate-superset}
LOGS=$STACK_DIR/log
PIDS=$STACK_DIR/pid
VENV=$STACK_DIR/venv
WS_MAIN=${SUPERSET_WS_DIR:+$SUPERSET_WS_DIR/dist/index.js}

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
die() { say "error: $*" >&2; exit 1; }

# --- processes --------------------------------------------------------------------

# born PID: when the kernel started it, empty if it is gone or a zombie.  Tells a
# process from a later one that was given the same number.
born() { sed -n 's/.*) //p' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

# pid_of NAME: of the part that `start` started, empty if it no longer runs.
pid_of() {
    local pid birth
    read -r pid birth 2>/dev/null <"$PIDS/$1" && [ "$(born "$pid")" = "$birth" ] && echo "$pid"
}

alive() { [ -n "$(pid_of "$1")" ]; }

# start NAME COMMAND...: as the leader of a session of its own, so that one kill of
# its group reaches its workers; log and "PID BIRTH" file under $STACK_DIR.
start() {
    local name=$1
    shift
    alive "$name" && return 0
    setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
    echo "$! $(born $!)" >"$PIDS/$name"
    disown $! # no word from the shell when a check kills it
}

# stop NAME SIGNAL SECONDS: politely, then KILL to what is left of the group.
stop() {
    local pid
    pid=$(pid_of "$1") || true
    rm -f "$PIDS/$1"
    [ -n "$pid" ] || return 0
    kill -"$2" "$pid" 2>/dev/null
    for _ in $(seq $(($3 * 10))); do
        [ -n "$(born "$pid")" ] || break
        sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
}

# await SECONDS COMMAND...: until it succeeds.
await() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}

# free_ports N: below the range from which the kernel gives out client ports, since
# a killed replica must find its port free when it comes back.
free_ports() {
    python3 - "$1" <<'PY'
import random, socket, sys
held = []
for port in random.sample(range(20000, 32000), 2000):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append((port, s))
    if len(held) == int(sys.argv[1]):
        break
print(*(port for port, _ in held))
PY
}

# --- what has to be installed -----------------------------------------------------

pg_bin() { find /usr/lib/postgresql/*/bin -name "$1" 2>/dev/null | sort -V | tail -1; }

# PostgreSQL refuses to run as root.
AS_PG=()
[ "$(id -u)" != 0 ] || AS_PG=(setpriv --reuid postgres --regid postgres --init-groups)

install_programs() {
    local missing=()
    [ -n "$(pg_bin initdb)" ] || missing+=(postgresql)
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v curl >/dev/null || missing+=(curl)
    command -v openssl >/dev/null || missing+=(openssl)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "please install: ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get update -q >"$LOGS/apt.log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        "${missing[@]}" >>"$LOGS/apt.log" 2>&1 || die "apt-get: see $LOGS/apt.log"
}

install_superset() {
    local wanted
    wanted=$(cat "$STACK_SRC"/{requirements,constraints}.txt | sha256sum)
    [ "$wanted" != "$(cat "$VENV/installed" 2>/dev/null)" ] || return 0
    say "installing Superset from PyPI"
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install -q --disable-pip-version-check uv >"$LOGS/pip.log" 2>&1
    "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" -r "$STACK_SRC/requirements.txt" \
        -c "$STACK_SRC/constraints.txt" >>"$LOGS/pip.log" 2>&1 || die "pip: see $LOGS/pip.log"
    echo "$wanted" >"$VENV/installed"
}

make_secrets() {
    if [ ! -s "$STACK_DIR/secrets" ]; then
        (
            umask 077
            for name in STACK_SECRET_KEY STACK_JWT_SECRET STACK_PG_PASSWORD STACK_ADMIN_PASSWORD; do
                echo "$name=$(openssl rand -hex 32)"
            done >"$STACK_DIR/secrets"
        )
    fi
    local tls=$STACK_DIR/tls
    if ! openssl x509 -checkend 86400 -noout -in "$tls/cert.pem" >/dev/null 2>&1; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
            -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
            -keyout "$tls/key.pem" -out "$tls/cert.pem" 2>/dev/null
    fi
}

# --- where everything listens -----------------------------------------------------

stack_alive() {
    alive postgres && alive redis && alive worker || return 1
    for port in $STACK_WEB_PORTS; do alive "web-$port" || return 1; done
    [ -z "$WS_MAIN" ] || alive websocket
}

# Takes the running stack's ports if it runs as it is wanted now, else new ones.
# PROXY_URL: empty, or the address of a proxy that somebody else runs.
choose_ports() {
    if [ -s "$STACK_DIR/ports" ]; then
        # shellcheck source=/dev/null
        . "$STACK_DIR/ports"
        # Superset was told the public address at its start, so it must still be right.
        if stack_alive && [ "${PROXY_URL:-https://127.0.0.1:$STACK_HTTPS_PORT}" = "$STACK_PUBLIC_URL" ] &&
            [ "${SUPERSET_WEB_PORTS:-$STACK_WEB_PORTS}" = "$STACK_WEB_PORTS" ] &&
            [ "${SUPERSET_WS_PORT:-$STACK_WS_PORT}" = "$STACK_WS_PORT" ]; then
            say "taking over what an earlier run has left running"
            return 0
        fi
        stop_stack
    fi
    local -a port
    read -ra port <<<"$(free_ports 8)"
    local web=${SUPERSET_WEB_PORTS:-"${port[0]} ${port[1]} ${port[2]}"}
    local https=${SLUICEGATE_PORT:-${port[6]}}
    local transport=polling
    [ -z "$WS_MAIN" ] || transport=ws
    cat >"$STACK_DIR/ports" <<PORTS
STACK_WEB_PORTS="$web"
STACK_WS_PORT=${SUPERSET_WS_PORT:-${port[3]}}
STACK_PG_PORT=${port[4]}
STACK_REDIS_PORT=${port[5]}
STACK_HTTPS_PORT=$https
STACK_ADMIN_PORT=${SLUICEGATE_ADMIN_PORT:-${port[7]}}
STACK_PUBLIC_URL=${PROXY_URL:-https://127.0.0.1:$https}
STACK_ASYNC_TRANSPORT=$transport
PORTS
}

# What every Superset process and the driver read.
load_env() {
    set -a
    # shellcheck source=/dev/null
    . "$STACK_DIR/secrets" && . "$STACK_DIR/ports" || die "no stack in $STACK_DIR"
    local pg=postgresql+psycopg2://superset:$STACK_PG_PASSWORD@127.0.0.1:$STACK_PG_PORT
    STACK_METADATA_URI=$pg/superset
    STACK_EXAMPLES_URI=$pg/examples
    STACK_DIR=$STACK_DIR
    SUPERSET_CONFIG_PATH=$STACK_SRC/superset_config.py
    SUPERSET_HOME=$STACK_DIR/home
    FLASK_APP='superset.app:create_app()'
    PYTHONDONTWRITEBYTECODE=1 # the configuration lies in the repository
    set +a
}

# --- the parts --------------------------------------------------------------------

start_postgres() {
    local data=$STACK_DIR/postgres
    if [ ! -s "$data/PG_VERSION" ]; then
        mkdir -p "$data"
        (umask 077 && echo "$STACK_PG_PASSWORD" >"$STACK_DIR/postgres.password")
        [ "$(id -u)" != 0 ] || chown postgres: "$data" "$STACK_DIR/postgres.password"
        (cd / && "${AS_PG[@]}" "$(pg_bin initdb)" -D "$data" -A scram-sha-256 -U postgres -E UTF8 --no-sync \
            --pwfile="$STACK_DIR/postgres.password" >"$LOGS/initdb.log" 2>&1) || die "initdb: see $LOGS/initdb.log"
        rm "$STACK_DIR/postgres.password"
    fi
    if ! alive postgres; then
        say "starting PostgreSQL"
        (cd / && start postgres "${AS_PG[@]}" "$(pg_bin postgres)" -D "$data" \
            -c listen_addresses=127.0.0.1 -c port="$STACK_PG_PORT" \
            -c unix_socket_directories= -c max_connections=200 -c shared_buffers=64MB -c fsync=off)
    fi
    await 60 "$(pg_bin pg_isready)" -q -h 127.0.0.1 -p "$STACK_PG_PORT" || die "PostgreSQL: see $LOGS/postgres.log"
    local psql=(env PGPASSWORD="$STACK_PG_PASSWORD" "$(pg_bin psql)" -qtA -h 127.0.0.1 -p "$STACK_PG_PORT" -U postgres)
    if [ -z "$("${psql[@]}" -c "select 1 from pg_roles where rolname = 'superset'")" ]; then
        "${psql[@]}" <<SQL
create role superset login password '$STACK_PG_PASSWORD';
create database superset owner superset;
create database examples owner superset;
SQL
    fi
}

start_redis() {
    alive redis || say "starting Redis"
    start redis redis-server --bind 127.0.0.1 --port "$STACK_REDIS_PORT" --dir "$STACK_DIR/redis" \
        --save "" --appendonly no --daemonize no
    await 10 redis-cli -p "$STACK_REDIS_PORT" ping || die "Redis: see $LOGS/redis.log"
}

# Schema, roles and the administrator: once.
initialise_superset() {
    [ ! -e "$STACK_DIR/initialised" ] || return 0
    say "making Superset's schema and roles"
    {
        "$VENV/bin/superset" db upgrade &&
            "$VENV/bin/superset" fab create-admin --username admin --firstname Test --lastname Admin \
                --email admin@localhost --password "$STACK_ADMIN_PASSWORD" &&
            "$VENV/bin/superset" init
    } >"$LOGS/initialise.log" 2>&1 || die "superset: see $LOGS/initialise.log"
    touch "$STACK_DIR/initialised"
}

# start_replica PORT: Gunicorn with the values of Superset's official image.
start_replica() {
    STACK_REPLICA=replica-$1 start "web-$1" "$VENV/bin/gunicorn" --bind "127.0.0.1:$1" \
        --workers 1 --worker-class gthread --threads 20 --timeout 60 --keep-alive 2 \
        --limit-request-line 0 --limit-request-field_size 0 \
        --access-logfile "$LOGS/access-$1.log" --no-control-socket "$FLASK_APP"
}

start_superset() {
    stack_alive || say "starting replicas on $STACK_WEB_PORTS, Celery worker${WS_MAIN:+, superset-websocket}"
    for port in $STACK_WEB_PORTS; do start_replica "$port"; done
    start worker "$VENV/bin/celery" --app=superset.tasks.celery_app:app worker \
        --pool=prefork -O fair -c 2 --loglevel INFO -n "test@%h"
    if [ -n "$WS_MAIN" ]; then
        [ -f "$WS_MAIN" ] || die "SUPERSET_WS_DIR: $WS_MAIN is missing (npm ci && npm run build)"
        PORT=$STACK_WS_PORT REDIS_HOST=127.0.0.1 REDIS_PORT=$STACK_REDIS_PORT REDIS_DB=0 \
            JWT_SECRET=$STACK_JWT_SECRET start websocket node --require "$STACK_SRC/loopback.cjs" "$WS_MAIN" start
        await 15 curl -fsS "http://127.0.0.1:$STACK_WS_PORT/health" || die "superset-websocket: see $LOGS/websocket.log"
    fi
    for port in $STACK_WEB_PORTS; do
        await 240 curl -fsS --max-time 5 "http://127.0.0.1:$port/health" || die "replica $port: see $LOGS/web-$port.log"
    done
}

stop_stack() {
    local file
    stop sluicegate TERM 15
    for file in "$PIDS"/web-*; do
        # QUIT ends Gunicorn at once; nobody waits for an answer any more.
        [ ! -e "$file" ] || stop "${file##*/}" QUIT 5 &
    done
    stop websocket TERM 3 &
    stop worker TERM 8 &
    wait
    stop redis TERM 5
    stop postgres INT 20
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    load_env
    "$@"
fi
