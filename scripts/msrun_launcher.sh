#!/usr/bin/env bash
# Start a script in several processes on this machine with msrun, MindFormers' way:
#   scripts/msrun_launcher.sh "scripts/train.py --config JOB.yaml" WORKERS [MASTER_PORT] [LOG_DIR]
# Logs: LOG_DIR/worker_N.log (default output/msrun_log). The status is that of the processes.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
read -r -a command <<<"$1"
workers=$2 port=${3:-8118} logs=${4:-output/msrun_log}

if ! [[ $workers =~ ^[1-9][0-9]*$ && $port =~ ^[1-9][0-9]*$ ]]; then
    echo "msrun_launcher.sh: WORKERS and MASTER_PORT must be whole numbers, got '$workers' and '$port'" >&2
    exit 2
fi
if ! msrun=$(command -v msrun); then
    echo "msrun_launcher.sh: no msrun on the PATH; activate the environment that has mindspore" >&2
    exit 1
fi
export PATH="$(dirname "$msrun"):$PATH" # msrun starts `python` from the PATH
mkdir -p "$logs"
exec msrun --worker_num="$workers" --local_worker_num="$workers" --master_port="$port" --log_dir="$logs" \
    --join=True --cluster_time_out=300 "${command[@]}"
