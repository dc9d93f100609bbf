#!/bin/sh
# One of three that watch Redis. Survives: the loss of one of them; two agree on a new master.
set -eu

# Sentinel writes into its configuration what it has learnt; the first start lays it down.
if [ ! -e /data/sentinel.conf ]; then
    cat >/data/sentinel.conf <<CONF
port 26379
dir /data
# Names, not addresses: containers get a new address when they come back.
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $HOSTNAME
sentinel monitor superset redis-1 6379 2
sentinel auth-pass superset $REDIS_PASSWORD
# Silent for 3 s is dead. Shorter, and a slow fork for the append-only file looks like death.
sentinel down-after-milliseconds superset 3000
sentinel failover-timeout superset 15000
sentinel parallel-syncs superset 1
CONF
fi
exec redis-sentinel /data/sentinel.conf
