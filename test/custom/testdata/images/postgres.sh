#!/bin/sh
# As the usual images of PostgreSQL do: a database is made when the container starts.
set -e
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
initdb --no-sync --auth=trust --username=postgres --pgdata="$PGDATA" >/dev/null
exec postgres -D "$PGDATA" -c jit=off -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp
