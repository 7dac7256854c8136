#!/bin/sh
# Runs the executable scripts of /docker-entrypoint.d before nginx, then becomes the command.
set -eu
case "${1:-}" in
nginx | nginx-debug)
    for file in /docker-entrypoint.d/*.sh; do
        if [ -x "$file" ]; then "$file"; fi
    done
    ;;
esac
exec "$@"
