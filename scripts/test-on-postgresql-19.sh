#!/usr/bin/env bash
# Runs tests on PostgreSQL 19, as long as no npm package has it:
#
#   npm run test:postgresql-19                  # what PostgreSQL 19 makes a difference to
#   npm run test:postgresql-19 -- tests/cache   # others
#
# For root on Debian or Ubuntu: the server comes from Debian's experimental suite, with the libraries it wants from
# unstable, into a folder of its own (about 600 MB, made once; POSTGRESQL_19_ROOT says where). It listens on a free port
# of this machine while the tests run.
set -euo pipefail
cd "$(dirname "$0")/.."

root=${POSTGRESQL_19_ROOT:-/var/cache/mikro-orm-plus/postgresql-19}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
bin=/usr/lib/postgresql/19/bin

in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"; }

make_root() {
  [ "$(id -u)" -eq 0 ] || { echo 'Only root can make the folder that the server runs in.' >&2; exit 1; }
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap; } >/dev/null
  rm -rf "$root.new"
  mkdir -p "$(dirname "$root")"
  debootstrap --variant=minbase sid "$root.new" "$mirror" >/dev/null
  root=$root.new
  printf 'deb %s sid main\ndeb %s experimental main\n' "$mirror" "$mirror" >"$root/etc/apt/sources.list"
  # a mirror may be a snapshot, whose lists say that they are out of date
  echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99mirror"
  in_root apt-get update -qq
  # without postgresql-common, which manages servers of a whole machine
  in_root sh -c 'cd /tmp && apt-get download -qq postgresql-19/experimental libpq5/experimental && for deb in *.deb; do dpkg-deb -x "$deb" /; done'
  in_root apt-get install -y -qq --no-install-recommends libgssapi-krb5-2 libicu78 libldap2 libnuma1 liburing2 \
    libxml2-16 >/dev/null
  in_root useradd --system postgres
  root=${root%.new}
  mv "$root.new" "$root"
}

[ -x "$root$bin/postgres" ] || make_root

data=/tmp/data.$$
port=$(node -p 'const s = require("node:net").createServer(); s.listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); }); ""' | head -n 1)
as_postgres() { in_root setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
stop() {
  as_postgres "$bin/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "${root:?}$data"
}
trap stop EXIT
as_postgres "$bin/initdb" -D "$data" -U postgres -A trust --locale=C.UTF-8 -E UTF8 >/dev/null
as_postgres "$bin/pg_ctl" -D "$data" -w -l "$data/log" start >/dev/null \
  -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c fsync=off -c max_connections=300"

if [ $# -eq 0 ]; then
  set -- tests/flows tests/repositories tests/sql tests/processes/race tests/cache/races tests/cache/transactions
fi
TEST_DATABASE_URL="postgresql://postgres@127.0.0.1:$port/postgres" npm test -- "$@"
