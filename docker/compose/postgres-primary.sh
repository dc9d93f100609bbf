#!/bin/bash
# Run once, when the primary's directory is made: a user for the replica, and a slot that keeps what it has not read yet.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v password="$POSTGRES_PASSWORD" <<'SQL'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
SELECT pg_create_physical_replication_slot('postgres_2');
-- Bounded: a replica that stays away must not fill the primary's disk.
ALTER SYSTEM SET max_slot_wal_keep_size = '4GB';
ALTER SYSTEM SET max_connections = 300;
SQL
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
