#!/usr/bin/env bash
# Install ocrfleet on a bare Debian/Ubuntu (or any systemd) machine. Safe to run again: it updates the program and the
# units, never changes an address in /etc/ocrfleet once it is there, and never starts more than it is asked for.
set -euo pipefail
unset CDPATH # `cd deploy` would search it
# Not the caller's: under 000 everybody would write the services' code, under 077 their user could not read it.
umask 022

usage() {
  cat <<'END'
Usage: deploy/install.sh [--role worker|hub] [--workers N] [--files-only]

  --role worker   N workers on this machine (default)
  --role hub      beat, Flower and the metrics exporter (Redis is installed separately, see deploy/README.md)
  --workers N     how many workers; default: one per core, and at most one per 512 MB. Surplus ones are stopped.
  --files-only    only write units and the settings file, install and start nothing (for machine images)

Settings: /etc/ocrfleet/env (made at the first run; put OCRFLEET_REDIS_URL there, or in the environment of the first run).
The hub's address is in /etc/ocrfleet/hub.env: workers of the same machine have one of their own, in env.
OCRFLEET_CA: the hub's certificate authority in base64, as deploy/hub.sh prints it; becomes /etc/ocrfleet/ca.pem.
DESTDIR=/some/root writes below that folder (implies --files-only).
END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/own_folder.sh
. "$here/own_folder.sh"
source_folder=$(dirname "$here")
root=${DESTDIR:-}
prefix=/opt/ocrfleet
role=worker
workers=
files_only=${root:+yes}

while [ $# -gt 0 ]; do
  case $1 in
    --role) role=${2:?--role needs worker or hub}; shift 2 ;;
    --workers) workers=${2:?--workers needs a number}; shift 2 ;;
    --files-only) files_only=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
case $role in worker | hub) ;; *) echo "install.sh: --role is worker or hub, not $role" >&2; exit 2 ;; esac
case $workers in *[!0-9]*) echo "install.sh: --workers needs a number, not $workers" >&2; exit 2 ;; esac
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
  echo "install.sh: run it as root (sudo $0 ...)" >&2
  exit 2
fi

# Nothing of the folder that this was called in is imported: root runs pip below, and a pip.py there would be run.
case ${PYTHON:-} in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
case $root in '' | /*) ;; *) root=$PWD/$root ;; esac
export PYTHONSAFEPATH=1
cd /

say() { echo "install.sh: $*"; }

default_workers() {
  local cores memory_mb by_memory
  cores=$(nproc)
  memory_mb=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo)
  by_memory=$((memory_mb / 512))
  [ "$by_memory" -ge 1 ] || by_memory=1
  if [ "$cores" -lt "$by_memory" ]; then echo "$cores"; else echo "$by_memory"; fi
}

make_user() {
  getent group ocrfleet >/dev/null || groupadd --system ocrfleet
  getent passwd ocrfleet >/dev/null ||
    useradd --system --gid ocrfleet --home-dir /var/lib/ocrfleet --shell /usr/sbin/nologin ocrfleet
  # The page's own. Its folder, with what visitors sent, systemd makes, or hands over from a version before.
  getent passwd ocrfleet-web >/dev/null ||
    useradd --system --gid ocrfleet --home-dir /nonexistent --shell /usr/sbin/nologin ocrfleet-web
}

# Of an installation under umask 000 anybody may have written what the services run.
refuse_others_program() {
  local found
  [ -e "$prefix" ] || return 0
  found=$(find -H "$prefix" \( ! -user "$(id -u)" -o ! -type l \( -perm -0002 -o -perm -0020 ! -group "$(id -g)" \) \) -print -quit)
  [ -z "$found" ] || {
    printf 'install.sh: %q: others may have put it there, or may change it: remove %s and run this again\n' "$found" "$prefix" >&2
    exit 2
  }
}

install_program() {
  local python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "install.sh: needs Python 3.11 or newer; try PYTHON=python3.12 $0" >&2
    exit 2
  }
  refuse_others_program
  [ -x "$prefix/bin/python" ] || "$python" -m venv "$prefix" || {
    echo "install.sh: no venv module; try: apt-get install python3-venv" >&2
    exit 2
  }
  local pip=("$prefix/bin/python" -m pip --quiet --disable-pip-version-check install --upgrade)
  # From lock files: every download must be the one that was looked at (its SHA-256). One set for both roles.
  "${pip[@]}" --require-hashes --requirement "$source_folder/requirements/build.txt" \
    --requirement "$source_folder/requirements/fleet.txt"
  # From a copy of what is ours: a setup.py in the checkout would be run, and all in its build/lib be installed, also what
  # an update has removed.
  local copy=$prefix/source
  rm -rf "$copy"
  install -d "$copy"
  cp -R "$source_folder"/{detector,worker,producer,pyproject.toml,README.md,LICENSE} "$copy"
  "${pip[@]}" --no-deps --no-build-isolation "$copy"
  rm -rf "$copy"
  install -d "$prefix/share/deploy"
  chmod -R u+rwX,go+rX,go-w "$prefix" # of a version before, which went by the caller's umask
  install -m 0644 "$here/README.md" "$prefix/share/deploy/README.md"
}

# East Asian text of PDFs that do not hold its font is drawn with this one (5 MB). Without it such pages fail, others do not.
install_font() {
  [ -z "$(find /usr/share/fonts /usr/local/share/fonts -name 'wqy-microhei*' -print -quit 2>/dev/null)" ] || return 0
  if ! DEBIAN_FRONTEND=noninteractive \
    apt-get install --quiet --quiet --yes --no-install-recommends fonts-wqy-microhei >/dev/null 2>&1; then
    say "no font WenQuanYi Micro Hei (apt-get install fonts-wqy-microhei): pages of East Asian PDFs without fonts will fail"
  fi
}

# An image is root's: in a folder of another user's his link would have root write elsewhere, and he would read the password.
refuse_others_image() {
  local place
  for place in "$root" "$root"/etc "$root"/etc/{systemd,systemd/system,ocrfleet,ocrfleet/{env,hub.env,ca.pem}}; do
    if { [ -e "$place" ] || [ -L "$place" ]; } && others_may "$place"; then
      printf 'install.sh: %q: others may have put it there, or may change it: name another DESTDIR\n' "$place" >&2
      exit 2
    fi
  done
}

address_in() { [ ! -e "$1" ] || sed -n 's/^OCRFLEET_REDIS_URL=//p' "$1" | tail -n 1; }

# Before anything is changed: the CA of another hub would take the place of the one that the kept address needs.
refuse_another_address() {
  local kept
  kept=$(address_in "$mine")
  [ -z "$kept" ] || [ -z "$given" ] || [ "$kept" = "$given" ] || {
    printf 'install.sh: %q has another OCRFLEET_REDIS_URL than is given here: put the new one there, or run this without it\n' "$mine" >&2
    exit 2
  }
}

# Made with its final mode: the password must not be readable for a moment either.
# Not sed: a URL may hold any character.
with_address() { # with_address FILE URL <LINES
  local line
  (umask 077 && while IFS= read -r line || [ -n "$line" ]; do
    [ "$line" = OCRFLEET_REDIS_URL= ] && line+=$2
    printf '%s\n' "$line"
  done >"$1.part")
  mv "$1.part" "$1"
  say "wrote $1"
}

write_files() {
  install -d "$root/etc/systemd/system" "$root/etc/ocrfleet"
  local unit
  for unit in "$here"/systemd/*.service; do
    install -m 0644 "$unit" "$root/etc/systemd/system/"
  done
  if [ -n "${OCRFLEET_CA:-}" ]; then
    local authority=$root/etc/ocrfleet/ca.pem
    # Beside it: of a line that was cut off half a certificate would take the place of the good one.
    if ! base64 -d <<<"$OCRFLEET_CA" >"$authority.part" || ! grep -q '^-----BEGIN CERTIFICATE-----' "$authority.part" ||
      [ "$(grep -c '^-----BEGIN ' "$authority.part")" != "$(grep -c '^-----END [A-Z ]*-----' "$authority.part")" ]; then
      rm -f "$authority.part"
      echo "install.sh: OCRFLEET_CA is no certificate in base64; copy the whole line that hub.sh printed" >&2
      exit 2
    fi
    chmod 0644 "$authority.part"
    [ ! -e "$authority" ] || cmp -s "$authority.part" "$authority" ||
      say "$authority is another one now: all addresses beside it must be of that hub"
    mv "$authority.part" "$authority"
  fi
  local env=$root/etc/ocrfleet/env workers_own=$given comment='' before
  if [ "$role" = hub ]; then
    workers_own=
    if [ -n "$given" ] && [ "$(address_in "$env")" = "$given" ]; then
      say "$env has the hub's address, which is hub.env's now: put a worker's there before workers run on this machine"
    fi
    # To be filled in. An empty address would hide that in env, where a version before had it.
    [ -n "$given" ] || comment='#'
    if [ ! -e "$mine" ] || { [ -n "$given" ] && [ -z "$(address_in "$mine")" ]; }; then
      printf '# For beat, Flower and the exporter alone; all else is in env.\n%sOCRFLEET_REDIS_URL=\n' "$comment" |
        with_address "$mine" "$given"
    fi
  fi
  before=$env
  [ -e "$env" ] || before=$here/systemd/env.example
  if [ ! -e "$env" ] || { [ -n "$workers_own" ] && grep -qx OCRFLEET_REDIS_URL= "$env"; }; then # of a hub that was here first
    with_address "$env" "$workers_own" <"$before"
  else
    say "kept $env as it is"
  fi
}

# systemd reads them, as root; the group's, as it was, is the page's, too. Before anything that takes minutes.
hide_addresses() {
  local file
  for file in "$root"/etc/ocrfleet/{env,hub.env}; do
    [ ! -e "$file" ] || chmod 0600 "$file"
  done
}

# restart, not start: a second run brings the new program into use.
start_workers() {
  local number unit
  for number in $(seq 1 "$workers"); do
    systemctl enable --quiet "ocrfleet-worker@$number.service"
    systemctl restart --no-block "ocrfleet-worker@$number.service"
  done
  while read -r unit; do
    number=${unit#ocrfleet-worker@}
    number=${number%.service}
    if [[ $number =~ ^[0-9]+$ ]] && [ "$number" -gt "$workers" ]; then
      systemctl disable --quiet --now --no-block "$unit"
      say "stopping surplus $unit (it finishes its image first)"
    fi
  done < <(systemctl list-units --plain --no-legend --all 'ocrfleet-worker@*.service' | awk '{print $1}')
}

given=${OCRFLEET_REDIS_URL:-}
mine=$root/etc/ocrfleet/env
[ "$role" = worker ] || mine=$root/etc/ocrfleet/hub.env
[ -n "$workers" ] || workers=$(default_workers)
[ -z "$root" ] || refuse_others_image
refuse_another_address
hide_addresses
if [ -z "$files_only" ]; then
  make_user
  install_program
  install_font
fi
write_files
if [ -n "$files_only" ]; then
  say "files only: nothing installed, nothing started"
  exit 0
fi
systemctl daemon-reload
# What runs of another role would go on with the program of before, and start its children from the new one.
case $role in
  hub) others=('ocrfleet-worker@*.service') ;;
  worker) others=(ocrfleet-{beat,flower,exporter}.service) ;;
esac
systemctl try-restart --no-block ocrfleet-{web,watch}.service "${others[@]}"
# A hub of a version before has its address in env.
if ! grep -qs '^OCRFLEET_REDIS_URL=.' "$mine" /etc/ocrfleet/env; then
  say "now set OCRFLEET_REDIS_URL in $mine and run this again"
  exit 0
fi
if [ "$role" = hub ]; then
  systemctl enable --quiet ocrfleet-beat.service ocrfleet-flower.service ocrfleet-exporter.service
  systemctl restart ocrfleet-beat.service ocrfleet-flower.service ocrfleet-exporter.service
  say "beat, Flower (127.0.0.1:5555) and exporter (127.0.0.1:9540) are running"
else
  start_workers
  say "$workers workers are running; look: journalctl -fu 'ocrfleet-worker@*'"
fi
