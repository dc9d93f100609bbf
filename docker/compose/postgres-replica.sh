#!/bin/bash
# The replica: copies the primary once, then follows it. Survives the loss of the primary; becomes it by `pg_ctl promote`.
set -euo pipefail
if [[ ! -s "$PGDATA/PG_VERSION" ]]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    export PGPASSWORD=$POSTGRES_PASSWORD
    # -R writes how to follow; the base backup is whole or not there at all.
    gosu postgres pg_basebackup -h postgres-1 -U replicator -D "$PGDATA" -S postgres_2 -X stream -R -c fast
fi
exec docker-entrypoint.sh postgres -c hot_standby_feedback=on
