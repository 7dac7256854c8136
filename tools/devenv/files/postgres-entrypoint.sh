#!/bin/bash
# Makes a database cluster in an empty $PGDATA, then becomes the server. POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB,
# POSTGRES_INITDB_ARGS and POSTGRES_HOST_AUTH_METHOD, each also as NAME_FILE, mean what they mean in the official image,
# and *.sql, *.sql.gz and *.sh in /docker-entrypoint-initdb.d run once, against the new database.
set -Eeuo pipefail

from_file() { # NAME DEFAULT: sets NAME from the file that NAME_FILE names, or to the default
    local file="$1_FILE"
    if [ -n "${!file:-}" ]; then
        if [ -n "${!1:-}" ]; then echo "error: both $1 and $file are set" >&2; exit 1; fi
        printf -v "$1" '%s' "$(<"${!file}")"
        unset "$file"
    fi
    export "$1=${!1:-$2}"
}

make_cluster() {
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        echo "error: the database is new and has no password: set POSTGRES_PASSWORD" >&2
        exit 1
    fi
    trap 'exit 143' TERM INT
    trap 'find "$PGDATA" -mindepth 1 -delete' EXIT # half a cluster would be taken for a whole one by the next start
    local extra=()
    read -r -a extra <<<"${POSTGRES_INITDB_ARGS:-}"
    local password=/dev/null
    if [ -n "$POSTGRES_PASSWORD" ]; then
        password=$(mktemp)
        printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
        extra+=(--pwfile="$password")
    fi
    initdb --username="$POSTGRES_USER" --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 \
        "${extra[@]}" -D "$PGDATA"
    if [ "$password" != /dev/null ]; then rm -f "$password"; fi
    printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"

    # While the cluster is made, it listens where nobody looks: a probe that succeeds means that it is complete.
    PGHOST=$(mktemp -d)
    export PGHOST
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -c unix_socket_directories=$PGHOST" -w start
    if [ "$POSTGRES_DB" != postgres ]; then
        psql_new -d postgres -v db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case "$file" in
        *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
        *.sql) psql_new -d "$POSTGRES_DB" -f "$file" ;;
        *.sql.gz) gunzip -c "$file" | psql_new -d "$POSTGRES_DB" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
    rmdir "$PGHOST"
    unset PGHOST
    trap - EXIT TERM INT
}

psql_new() { psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" "$@"; }

if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
if [ "${1:-}" = postgres ]; then
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$PGDATA" /var/run/postgresql
        chmod 0700 "$PGDATA"
        find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres '{}' +
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$BASH_SOURCE" "$@"
    fi
    from_file POSTGRES_PASSWORD ''
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    from_file POSTGRES_HOST_AUTH_METHOD scram-sha-256
    if [ ! -s "$PGDATA/PG_VERSION" ]; then make_cluster; fi
    unset POSTGRES_PASSWORD
fi
exec "$@"
