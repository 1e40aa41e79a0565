#!/usr/bin/env bash
# Start a script in several processes on this machine with msrun, MindFormers' way:
#   scripts/msrun_launcher.sh "scripts/train.py --config JOB.yaml" WORKERS [MASTER_PORT] [LOG_DIR]
# Logs: LOG_DIR/worker_N.log (default output/msrun_log). Ctrl-C and SIGTERM ask the workers to stop, a second one
# kills them. Status: 0, 1 if a process failed, 130 or 143 after Ctrl-C or SIGTERM.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
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

asked=0 how=TERM
# ask STATUS: signal the workers, the children of msrun that lead a session (its scheduler and tails do not).
ask() {
    local stat line state parent session found=0 now=$how
    asked=$1 how=KILL
    for stat in /proc/[0-9]*/stat; do # ps is not everywhere
        { read -r line <"$stat"; } 2>/dev/null || continue
        read -r state parent _ session _ <<<"${line##*) }"
        if [ "$parent" = "$pid" ] && [ "$session" = "${line%% *}" ] && [ "$state" != Z ]; then
            found=1
            kill -s "$now" "$session" || true
        fi
    done
    if [ "$found" = 0 ]; then kill -s "$now" -- "-$pid" || true; fi # none yet, or none any more
}
# in a session of its own: on Ctrl-C msrun kills the workers without a checkpoint and ends with 0, on SIGTERM it
# ends and leaves them at work
setsid msrun --worker_num="$workers" --local_worker_num="$workers" --master_port="$port" --log_dir="$logs" \
    --join=True --cluster_time_out=300 "${command[@]}" &
pid=$!
trap 'ask 129' HUP
trap 'ask 130' INT
trap 'ask 143' TERM
while kill -0 "$pid" 2>/dev/null; do wait "$pid" || true; done # a signal ends a wait, too
wait "$pid" && status=0 || status=$?
if [ "$status" != 0 ] && [ "$asked" != 0 ]; then # msrun calls workers that were stopped a failure
    echo "msrun_launcher.sh: stopped; the same command goes on from the newest checkpoint" >&2
    status=$asked
fi
exit "$status"
