# shellcheck shell=bash
# hub.sh and install.sh source this: what root takes for its own, writes and runs must be nobody else's to put there. Who
# may are root, who runs this, and who called sudo for it; all others are "others".

# others_may PATH [way]: whether it is another user's, or others may write to it. Of a link its owner counts. On the way to
# something ("way") a sticky bit is enough: others can make things there, and replace none.
others_may() {
  local mode owner group user
  read -r mode _ owner group _ < <(LC_ALL=C ls -ldn -- "$1" 2>/dev/null) || return 0
  case $owner in 0 | "$(id -u)" | "${SUDO_UID:-0}") ;; *) return 0 ;; esac
  case $mode in
    l*) return 1 ;;
    ?????????[tT]*) [ "${2:-}" != way ] || return 1 ;;
  esac
  [ "${mode:8:1}" != w ] || return 0
  [ "${mode:5:1}" = w ] || return 1
  # The group's bits: of an ACL they say that somebody may, not who. A group that is the owner's alone is he himself.
  [ "${mode:10:1}" != + ] || return 0
  user=$(getent passwd "$owner" | cut -d: -f1)
  case $(getent group "$group" | cut -d: -f1,4) in "$user:" | "$user:$user") ;; *) return 0 ;; esac
  getent passwd | awk -F: -v user="$user" -v group="$group" '$4 == group && $1 != user { others = 1 } END { exit !others }'
}

# others_above PATH: prints the first of PATH, the folders above and the links on the way that others may put another in
# the place of. Below what is not there yet nothing is asked.
others_above() {
  local path=$1 target
  while [ ! -e "$path" ] && [ ! -L "$path" ]; do path=$(dirname -- "$path"); done
  while :; do
    if others_may "$path" way; then
      printf '%s\n' "$path"
      return
    fi
    if [ -L "$path" ] && [ -e "$path" ]; then # not one that leads in a circle
      target=$(readlink -- "$path")
      case $target in /*) ;; *) target=$(dirname -- "$path")/$target ;; esac
      target=$(others_above "$target")
      if [ -n "$target" ]; then
        printf '%s\n' "$target"
        return
      fi
    fi
    [ "$path" != / ] || return 0
    path=$(dirname -- "$path")
  done
}

# others_in FOLDER: prints the first of FOLDER and what is in it that others may have put there, change, or read by an ACL
# that it hands on; and a link, which nothing of ours makes there. "data" with what lies in it, and two files that he alone
# may read, are Redis' own user's; so is what a run that was killed left of these.
others_in() {
  local path
  while IFS= read -r -d '' path; do
    if [ -L "$path" ] && [ "$path" != "$1/data" ]; then
      :
    elif [[ $path = "$1"/@(data|server.key?(.part)|users.acl?(.part)) ]] && [ "$(stat -c %U -- "$path")" = redis ]; then
      continue
    elif [ "$path" = "$1" ] && [[ $(LC_ALL=C ls -ldn -- "$path") = ??????????+* ]]; then
      :
    elif ! others_may "$path"; then
      continue
    fi
    printf '%s\n' "$path"
    return
  done < <(find "$1" -path "$1/data/*" -prune -o -print0)
}
