#!/usr/bin/env bash
# Makes .venv in the checkout and installs the package there, editable, with the extras named:
#   scripts/setup_env.sh [EXTRA...]        extras: see setup.py
#   STACK=2.9 scripts/setup_env.sh         another MindSpore of scripts/stacks/, in .venv-2.9
# Safe to run again: when setup.py has not changed since and the extras are in, it ends at once.
#
# torch (extra "dev") comes from whatever index pip is configured with. On Linux x86-64 the default index has
# the CUDA build, which works without a GPU but is gigabytes larger; where pip also sees a CPU build of the
# same version (PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS), it takes that one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stack=${STACK:-2.7}
venv=.venv
[ "$stack" = 2.7 ] || venv=.venv-$stack
python=$venv/bin/python
pins=scripts/stacks/$stack.txt # as constraints: setup.py has the range in which releases were tried

say() { echo "setup: $*" >&2; }

# need_debian PACKAGE WHY: install as root, else say how and fail.
need_debian() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing the Debian package $1 ($2)"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$1" </dev/null >/dev/null && return
  fi
  say "missing: $1 ($2); install it with: sudo apt-get install $1"
  return 1
}

if [ ! -f "$pins" ]; then
  say "no stack $stack; there are:$(cd scripts/stacks && printf ' %s' *.txt | sed 's/\.txt//g')"
  exit 1
fi

# Runnable, 3.10 or 3.11, able to make virtual environments (a version manager's shim can be none of these).
usable_python() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null
}

make_venv() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.10 python3 python; do
    if usable_python "$candidate"; then
      say "making $venv with $("$candidate" --version) ($candidate)"
      "$candidate" -m venv "$venv"
      return
    fi
  done
  say "no usable Python found: MindSpore needs python3.10 or python3.11 with its venv module" \
    "(Debian: apt-get install python3.11 python3.11-venv), or name one: PYTHON=/path/to/python3.11 $0"
  exit 1
}

# pip's chatter goes to a log; the name of each package is the progress to watch.
pip_install() {
  local log=$venv/pip.log line
  say "installing $* (the first time some minutes, up to 5 GB; log: $log)"
  if ! "$python" -m pip install --disable-pip-version-check --no-input -c "$pins" -e "$@" </dev/null 2>&1 | tee "$log" |
    while read -r line; do
      case $line in
        Collecting\ *) line=${line#Collecting } && printf ' %s' "${line%%[!A-Za-z0-9_.-]*}" >&2 ;;
        Installing\ collected*) printf '\nsetup: unpacking ...' >&2 ;;
      esac
    done; then
    tail -n 20 "$log" >&2
    say "pip failed; its last lines are above, the rest is in $log"
    exit 1
  fi
  printf '\n' >&2
  # pip only warns of this
  if grep -o 'does not provide the extra.*' "$log" >&2; then exit 1; fi
}

if ! { [ -x "$python" ] && [ -x "$venv/bin/pip" ]; }; then make_venv; fi
if ! usable_python "$python"; then
  found=$("$python" --version 2>&1 || echo "a Python that does not run")
  say "$venv holds $found, not 3.10 or 3.11: remove $venv and run this again"
  exit 1
fi

# One stamp per state of setup.py and pins; its lines are the extras installed in that state.
hash=$(cat setup.py "$pins" | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
stamp=$venv/installed-$hash
missing=()
for extra in "$@"; do
  grep -qsx -- "$extra" "$stamp" || missing+=("$extra")
done
# The command is run because a moved checkout breaks its first line.
if [ ! -e "$stamp" ] || [ ${#missing[@]} -gt 0 ] || ! "$venv/bin/osum" --version >/dev/null 2>&1; then
  extras=$(IFS=, && echo "$*")
  pip_install ".${extras:+[$extras]}"
  { cat "$stamp" 2>/dev/null || true; printf '%s\n' "$@"; } | sort -u >"$stamp.new"
  rm -f "$venv"/installed-????????????????
  mv "$stamp.new" "$stamp"
fi

# Debian packages: libgomp1 always; espeak-ng for tests, which say so themselves where it is missing.
"$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || need_debian libgomp1 "MindSpore's threads"
if [[ " $* " == *" dev "* ]] && ! command -v espeak-ng >/dev/null; then
  need_debian espeak-ng "speech for the synthetic corpus of examples and tests" || true
fi
