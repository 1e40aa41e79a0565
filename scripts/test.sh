#!/usr/bin/env bash
# Sets up what the tests need, then runs the fast ones, two files at a time. Arguments go to pytest:
#   scripts/test.sh tests/test_cli.py -k version
#   scripts/test.sh -m slow                        the heavy ones, one after the other: for the night
#   STACK=2.9 scripts/test.sh                      on another MindSpore, in an environment of its own
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup_env.sh" dev
workers=2 threads=1 # tiny models: more threads only wait for each other
case " $* " in # those measure time and memory, or take all cores themselves
  *" -m slow "* | *" -m=slow "*) workers=0 threads=2 ;;
esac
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
cd "$root"
venv=.venv
[ "${STACK:-2.7}" = 2.7 ] || venv=.venv-$STACK
exec "$venv/bin/python" -m pytest -m "not slow" -q --durations=40 -n "$workers" --dist loadfile \
  --no-loadscope-reorder "$@"
