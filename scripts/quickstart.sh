#!/usr/bin/env bash
# From a clean clone to answers: sets up .venv, then runs the bundled model on the bundled recordings. Each
# is asked for the tasks that the manifest lists for it. Arguments go to `osum infer`:
#   scripts/quickstart.sh --instruction "What does the speaker say, and how old is she?"
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STACK=2.7 "$root/scripts/setup_env.sh"
cd "$root"
exec .venv/bin/osum infer --manifest mindspore_osum/assets/recordings/manifest.jsonl --table "$@"
