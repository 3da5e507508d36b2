# What the scripts of this folder share. `kubectl` is shadowed by a function that shows the
# command, what it prints and how it ends, so a script reads like what one would type.

set -u
PROGRAM=$(type -P kubectl)

# Begins a step; its title is unique in its script.
step() { printf '\n### %s\n' "$*"; }

# Prints a command as one would type it.
show() {
  local word
  printf '$'
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then printf ' %s' "$word"; else printf " '%s'" "$word"; fi
  done
  printf '\n'
}

kubectl() {
  show kubectl "$@"
  "$PROGRAM" "$@" 2>&1
  local code=$?
  ((code == 0)) || echo "[exit $code]"
}

# The same without a word: to set the scene, inside pipes and in conditions.
quietly() { "$PROGRAM" "$@"; }

# Sets the scene, and ends the script when that fails.
given() { quietly "$@" >/dev/null || { echo "cannot set the scene: kubectl $*" >&2; exit 1; }; }

# Waits, for a minute at most, until a command succeeds.
eventually() {
  local end=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "waited in vain for: $*" >&2; exit 1; }
    sleep 0.1
  done
}

# Whether there is no such object.
gone() { ! quietly get "$@"; }

# A namespace for this script alone, which it works in from now on.
namespace() {
  given create namespace "$1"
  cp "$KUBECONFIG" "$TMPDIR/kubeconfig"
  export KUBECONFIG=$TMPDIR/kubeconfig
  given config set-context --current --namespace="$1"
}

# A JSON document with its fields in order: servers may write them in any.
pretty() { python3 -m json.tool --sort-keys --indent 2; }
