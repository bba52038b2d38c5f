#!/bin/sh
# check_aof.sh DATA: before Redis or Valkey starts, sees to it that it can. Every deploy file of a hub runs it.
#
# A disk that was full for a moment leaves a hole in the append-only file, if that was written anew since the start (seen
# with Redis 7.0 and Valkey 9.1): a short write is cut off where the file before it ended. Writing goes on, and at the next
# start the server ends with "Bad file format", each time. From the hole on all is cut off: jobs are as they were then, and
# pages of later are run again. A file that the server cannot read for another reason is left as it is.
set -u
data=$1 folder=$1/appendonlydir
manifest=$folder/appendonly.aof.manifest
# A copy that was not finished, of a server that was killed: 168 MB each, and nobody else removes them.
rm -f "$data"/temp-*.aof "$data"/temp-*.rdb
check=$(command -v redis-check-aof || command -v valkey-check-aof) || exit 0
[ -f "$manifest" ] || exit 0
rounds=$(grep -c ' type i' "$manifest")
while [ "$rounds" -gt 0 ] && ! said=$("$check" "$manifest" 2>&1); do
  case $said in *".incr.aof is not valid"*) ;; *) exit 0 ;; esac
  if yes | "$check" --fix "$manifest" >/dev/null 2>&1; then
    echo "check_aof.sh: $folder was damaged: cut off what cannot be read" >&2
    exit 0
  fi
  # The damaged file is not the last: those after it go first.
  last=$(sed -n 's/^file \([^ ]*\) seq [0-9]* type i.*$/\1/p' "$manifest" | tail -n 1)
  echo "check_aof.sh: $folder/$last follows one that is damaged: left out" >&2
  if ! grep -v "^file $last seq " "$manifest" >"$manifest.new" || ! mv "$manifest.new" "$manifest"; then
    echo "check_aof.sh: make room in $data" >&2
    exit 0
  fi
  rm -f "$folder/$last"
  rounds=$((rounds - 1))
done
