#!/usr/bin/env bash
# Make a hub's Redis for an untrusted network: a CA, the server's certificate, users with passwords, redis.conf; and print
# the line that makes a worker and the one that makes a producer. Safe to run again: what is there stays, so the lines of
# before go on to work; only a certificate for other names, or of which 90 days are left, is made anew.
set -euo pipefail
unset CDPATH # `cd deploy` would search it

usage() {
  cat <<'USAGE'
Usage: deploy/hub.sh [--dir FOLDER] [--port N] [--systemd | --compose] NAME_OR_ADDRESS...

  NAME_OR_ADDRESS  how workers and producers reach this machine: host names and IP addresses, the first is printed
  --dir FOLDER     where everything is kept; default /etc/ocrfleet-hub. Holds the CA's key: back it up, show nobody.
  --port N         of Redis with TLS; default 6380. Open it in the firewall.
  --systemd        also write and start ocrfleet-redis.service (needs root and redis-server)
  --compose        also write compose.yaml and compose.env, and print the line that starts the hub with Docker Compose

Example: sudo deploy/hub.sh --systemd hub.example.org 203.0.113.7
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/own_folder.sh
. "$here/own_folder.sh"
folder=/etc/ocrfleet-hub
port=6380
systemd=
compose=
names=()
while [ $# -gt 0 ]; do
  case $1 in
    --dir) folder=${2:?--dir needs a folder}; shift 2 ;;
    --port) port=${2:?--port needs a number}; shift 2 ;;
    --systemd) systemd=yes; shift ;;
    --compose) compose=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) names+=("$1"); shift ;;
  esac
done
[ ${#names[@]} -gt 0 ] || { usage >&2; exit 2; }
[ -z "$systemd$compose" ] || [ "$systemd$compose" = yes ] || { echo "hub.sh: --systemd or --compose, not both" >&2; exit 2; }
case $port in *[!0-9]* | '') echo "hub.sh: --port needs a number, not $port" >&2; exit 2 ;; esac
command -v openssl >/dev/null || { echo "hub.sh: needs openssl: apt-get install openssl" >&2; exit 2; }
if [ -n "$systemd" ]; then
  [ "$(id -u)" = 0 ] || { echo "hub.sh: --systemd needs root" >&2; exit 2; }
  command -v redis-server >/dev/null || { echo "hub.sh: needs redis-server: apt-get install redis-server" >&2; exit 2; }
fi

quietly() { # openssl talks on stderr also when all is well
  local said
  said=$("$@" 2>&1) || { echo "$said" >&2; echo "hub.sh: failed: $*" >&2; exit 1; }
}

alternatives() { # DNS:hub.example.org,IP:203.0.113.7
  local name list=
  # Compose's own services call it redis.
  for name in "${names[@]}" ${compose:+redis}; do
    case $name in
      *[!0-9.]*:* | *:*) list+=,IP:$name ;;
      *[!0-9.]*) list+=,DNS:$name ;;
      *) list+=,IP:$name ;;
    esac
  done
  echo "${list#,}"
}

# put NAME...: each NAME.part takes its place, whole. A run that was killed in the middle of users.acl left none of its
# users, and with such a file Redis lets everybody in, and do all.
put() {
  local name
  for name; do
    sync "$name.part" # or a machine that goes down has an empty file under this name
    mv -f "$name.part" "$name"
  done
}

umask 077
# What lies there is taken for ours: the CA's key, passwords, the script that the printed line runs. And root writes there.
refuse() {
  [ -z "$1" ] || {
    printf 'hub.sh: %q: others may have put it there, or may change it: name a new folder, or, if you made it, %s it\n' \
      "$1" 'chown, chmod go-w and setfacl -bk' >&2
    exit 2
  }
}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
case $systemd$folder in
  yes/root/* | yes/home/* | yes/run/user/*) echo "hub.sh: a unit sees no home folders: name another --dir" >&2; exit 2 ;;
esac
refuse "$(others_above "$folder")"
mkdir -p "$folder"
cd "$folder"
folder=$(pwd -P)
refuse "$(others_above "$folder")"
refuse "$(others_in "$folder")"
mkdir -p data
served() { cat server.pem users.acl redis.conf 2>/dev/null | openssl dgst -sha256; }
[ ! -e redis.conf ] || before=$(served || :)
group='' alone='' # of what Redis reads; and its user, whose group may have others in it
gid=46380 # of Redis in its container, and of nobody on this machine
while getent group "$gid" >/dev/null || getent passwd | cut -d: -f4 | grep -qx "$gid"; do gid=$((gid + 1)); done
if [ "$(id -u)" != 0 ]; then
  :
elif [ -n "$compose" ]; then
  group=$gid
elif getent passwd redis >/dev/null; then
  group=redis alone=redis
fi
for_redis() { # for_redis NAME...: it may read them
  [ -n "$group" ] || return 0
  chown "0:$group" "$@"
  chmod 0640 "$@"
}
secret_of_redis() { # of nobody else's: the certificate's key, and users with what their passwords are known by
  if [ -n "$alone" ]; then
    chmod 0400 "$@"
    chown "$alone:0" "$@"
  else
    for_redis "$@"
  fi
}
curve=(-pkeyopt ec_paramgen_curve:P-256)
if [ ! -e ca.key ]; then
  quietly openssl req -x509 -newkey ec "${curve[@]}" -nodes -days 3650 -subj '/CN=ocrfleet CA' \
    -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout ca.key.part -out ca.pem
  mv ca.key.part ca.key
fi
wanted="subjectAltName=$(alternatives)"
# 825 days is the most that some TLS libraries take; in the last 90 this makes another.
if [ "$(cat names 2>/dev/null)" != "$wanted" ] || ! openssl x509 -checkend 7776000 -noout -in server.pem >/dev/null 2>&1; then
  rm -f names # it comes back last: a run that was killed is made good by the next
  echo "$wanted" >names.part
  quietly openssl req -newkey ec "${curve[@]}" -nodes -subj '/CN=ocrfleet hub' -keyout server.key.part -out server.csr
  quietly openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile names.part -out server.pem.part
  rm -f server.csr
  for_redis server.pem.part
  secret_of_redis server.key.part
  put server.key server.pem names
fi
for user in worker producer hub ${compose:+flower web}; do
  if [ ! -s "$user.password" ]; then
    openssl rand -hex 24 >"$user.password.part"
    put "$user.password"
  fi
done
# Redis knows passwords by their SHA-256: who reads its files, or sed's command line, learns none.
hashed() { tr -d '\n' <"$1.password" | openssl dgst -sha256 -r | cut -c 1-64; }
# A comment is an error to Redis in an ACL file.
sed -e '/^#/d' -e '/^$/d' -e "s/>WORKER_PASSWORD/#$(hashed worker)/" -e "s/>PRODUCER_PASSWORD/#$(hashed producer)/" \
  -e "s/>HUB_PASSWORD/#$(hashed hub)/" "$here/redis/users.acl" >users.acl.part
data=$folder/data
[ -z "$compose" ] || data=/data # the container's volume
sed -e "s|/etc/redis/users.acl|$folder/users.acl|" -e "s|/etc/redis/tls/|$folder/|" -e "s/^tls-port .*/tls-port $port/" \
  "$here/redis/redis.conf" >redis.conf.part
echo "dir $data" >>redis.conf.part
cp "$here/redis/check_aof.sh" check_aof.sh.part
for_redis redis.conf.part check_aof.sh.part ca.pem server.pem
secret_of_redis users.acl.part server.key
put users.acl redis.conf check_aof.sh
start='sh'
if [ -n "$group" ]; then
  chgrp "$group" .
  if [ -n "$compose" ]; then # everybody may read the CA
    chmod 0751 .
    chmod 0644 ca.pem
  else
    chmod 0750 .
    chown -R redis:redis data
    start='runuser -u redis -- sh' # root would write wherever links lead that he laid there
    runuser -u redis -- test -r "$folder/redis.conf" ||
      printf 'The user redis may not enter a folder above %q, and Redis cannot start there: chmod o+x it, or name another --dir\n' "$folder"
  fi
fi

if [ -n "$systemd" ]; then
  unit=/etc/systemd/system/ocrfleet-redis.service
  sed -e "s|/etc/ocrfleet-hub|$folder|g" -e "s|/usr/bin/redis-server|$(command -v redis-server)|" \
    "$here/redis/ocrfleet-redis.service" >"$unit.part"
  chmod 0644 "$unit.part"
  put "$unit"
  systemctl daemon-reload
  systemctl enable --quiet ocrfleet-redis.service
  systemctl restart ocrfleet-redis.service
fi

host=${names[0]}
case $host in *:*) host="[$host]" ;; esac
url() { echo "rediss://$1:$(cat "$1.password")@$host:$port/0?ssl_ca_certs=$2"; }
authority=$(base64 <ca.pem | tr -d '\n')
# In the environment: arguments of sudo are in its log, and every user of the machine may read them while it runs.
install='sudo --preserve-env=OCRFLEET_CA,OCRFLEET_REDIS_URL deploy/install.sh'
if [ -n "$compose" ]; then
  inside() { echo "rediss://$1:$(cat "$1.password")@redis:$port/0?ssl_ca_certs=$folder/ca.pem"; }
  service() { # service NAME USER: its address, and the CA that the certificate is checked against
    printf '  %s:\n    environment:\n      OCRFLEET_REDIS_URL: %s\n    volumes: ["%s/ca.pem:%s/ca.pem:ro"]\n' "$1" "$(inside "$2")" "$folder" "$folder"
  }
  cat >compose.env.part <<SETTINGS
OCRFLEET_REDIS_PASSWORD=of-no-use-here
FLOWER_BASIC_AUTH=keeper:$(cat flower.password)
OCRFLEET_WEB_TOKEN=$(cat web.password)
SETTINGS
  cat >compose.yaml.part <<COMPOSE
# Made by deploy/hub.sh: Redis with TLS and users, on every address of this machine.
services:
  redis:
    command: [sh, -c, "sh '$folder/check_aof.sh' /data; exec valkey-server '$folder/redis.conf'"]
    user: "999:$gid"
    environment: {REDISCLI_AUTH: "$(cat hub.password)"}
    healthcheck:
      test: [CMD, valkey-cli, --tls, --cacert, "$folder/ca.pem", -h, localhost, -p, "$port", --user, hub, --no-auth-warning, ping]
    ports: !override ["$port:$port"]
    volumes: ["$folder:$folder:ro"]
$(service worker worker)
$(for name in beat flower exporter; do service "$name" hub; done)
$(for name in producer watch web; do service "$name" producer; done)
COMPOSE
  put compose.env compose.yaml
  compose="docker compose --env-file $folder/compose.env -f docker-compose.yml -f $folder/compose.yaml"
  printf 'Start the hub, with two workers, in a checkout on this machine:\n  %s up -d --build --scale worker=2\n' "$compose"
fi
[ -n "$systemd$compose" ] || {
  echo 'Start Redis (cat shows, and obeys not, what scripts log):'
  # shellcheck disable=SC2016  # expanded where it is run
  printf '  %s -c '\''sh "$1/check_aof.sh" "$1/data"; exec redis-server "$1/redis.conf"'\'' - %q | cat -v\n' "$start" "$folder"
}
[ -n "$compose" ] || cat <<LINES
Hub (beat, Flower, exporter), in a checkout on this machine:
  OCRFLEET_CA=$authority OCRFLEET_REDIS_URL='$(url hub /etc/ocrfleet/ca.pem)' $install --role hub
LINES
cat <<LINES
Worker, in a checkout on each machine:
  OCRFLEET_CA=$authority OCRFLEET_REDIS_URL='$(url worker /etc/ocrfleet/ca.pem)' $install
Producer, in the shell that will run ocr-producer:
  (umask 077 && mkdir -p ~/.config/ocrfleet && echo $authority | base64 -d > ~/.config/ocrfleet/ca.pem) && export OCRFLEET_REDIS_URL="$(url producer '')\$HOME/.config/ocrfleet/ca.pem"
LINES
# On stderr: a cron job lets nobody read the passwords above, and this is what it has to say.
[ -n "$systemd" ] || [ "${before-none}" = none ] || [ "$before" = "$(served)" ] ||
  echo "hub.sh: certificate, users or settings are new, and Redis goes by the old ones until you restart it${compose:+: $compose restart redis}" >&2
