#!/usr/bin/env bash
# Start a script in several processes with msrun; the arguments are those of MindFormers' script of this name:
#   scripts/msrun_launcher.sh "scripts/train.py --config JOB.yaml"               8 processes on this host
#   scripts/msrun_launcher.sh COMMAND WORKERS [MASTER_PORT [LOG_DIR]]            on this host
#   scripts/msrun_launcher.sh COMMAND WORKERS MASTER_PORT LOG_DIR JOIN TIMEOUT   on this host
#   scripts/msrun_launcher.sh COMMAND WORKERS LOCAL_WORKERS MASTER_ADDR MASTER_PORT NODE_RANK LOG_DIR JOIN TIMEOUT
# The last form runs on each of several hosts, with its NODE_RANK 0, 1, ... and the address of host 0: WORKERS in
# all, LOCAL_WORKERS of them here. All hosts must see the job's files and its output folder under the same paths.
# JOIN is True (wait for the processes, the default) or False (leave them running; nothing stops them then).
# TIMEOUT is how many seconds processes wait for each other at the start; 300 if not given, MindFormers gives 7200.
# Logs: LOG_DIR/worker_N.log (default output/msrun_log). Ctrl-C and SIGTERM ask the workers of this host to stop, a
# second one kills them. Status: 0, 1 if a process failed, 130 or 143 after Ctrl-C or SIGTERM.
set -euo pipefail

usage() {
    sed -n '2,12s/^# //p' "$0" >&2
    exit 2
}
refuse() {
    echo "msrun_launcher.sh: $1" >&2
    exit 2
}
# whole NAME VALUE LOWEST HIGHEST: refuse a value that is no such whole number.
whole() {
    [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] && (($2 >= $3 && $2 <= $4)) || refuse "$1 must be a whole number from $3 to $4, got '$2'"
}

[ $# -ge 1 ] || usage
read -r -a command <<<"$1"
workers=${2:-8} here=${2:-8} address='' port=8118 rank='' logs=output/msrun_log join=True timeout=300
case $# in
1 | 2) ;;
3 | 4) port=$3 logs=${4:-$logs} ;;
6) port=$3 logs=$4 join=$5 timeout=$6 ;;
9) here=$3 address=$4 port=$5 rank=$6 logs=$7 join=$8 timeout=$9 ;;
*) usage ;;
esac

[ ${#command[@]} -gt 0 ] || refuse "COMMAND is empty; give the script and its arguments in quotes"
whole WORKERS "$workers" 1 65536
whole MASTER_PORT "$port" 1024 65535
whole LOCAL_WORKERS "$here" 1 "$workers"
whole TIMEOUT "$timeout" 1 999999999
[ -n "$logs" ] || refuse "LOG_DIR is empty"
case ${join,,} in true) join=True ;; false) join=False ;; *) refuse "JOIN must be True or False, got '$join'" ;; esac
hosts=()
if [ "$here" != "$workers" ]; then
    whole NODE_RANK "$rank" 0 65535
    [[ $address =~ ^[A-Za-z0-9.-]+$ ]] || refuse "MASTER_ADDR must be the address of host 0, got '$address'"
    hosts=(--master_addr="$address" --node_rank="$rank")
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
setsid msrun --worker_num="$workers" --local_worker_num="$here" ${hosts[@]+"${hosts[@]}"} --master_port="$port" \
    --log_dir="$logs" --join="$join" --cluster_time_out="$timeout" "${command[@]}" &
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
