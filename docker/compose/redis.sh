#!/bin/sh
# A Redis that asks the Sentinels who the master is before it takes part, so that one that comes back after a failover does not
# take itself for the master again. Survives: its own restart at any moment.
set -eu

master=
for sentinel in sentinel-1 sentinel-2 sentinel-3; do
    master=$(timeout 2 redis-cli -h "$sentinel" -p 26379 sentinel get-master-addr-by-name superset 2>/dev/null | head -1) || true
    [ -z "$master" ] || break
done
# At the very first start there are none yet.
master=${master:-redis-1}

set -- --appendonly yes --requirepass "$REDIS_PASSWORD" --masterauth "$REDIS_PASSWORD" \
    --replica-announce-ip "$HOSTNAME" --maxmemory-policy noeviction \
    --min-replicas-to-write 0 --repl-diskless-sync yes
[ "$master" = "$HOSTNAME" ] || set -- "$@" --replicaof "$master" 6379
exec redis-server "$@"
