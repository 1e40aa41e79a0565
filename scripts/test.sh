#!/usr/bin/env bash
# Sets up what the tests need, then runs the fast ones. Arguments go to pytest:
#   scripts/test.sh tests/test_cli.py -k version
#   scripts/test.sh -m slow                        the heavy ones
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/setup_env.sh" dev
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} # tiny models: more threads only wait for each other
cd "$root"
exec .venv/bin/python -m pytest -m "not slow" -q --durations=10 "$@"
