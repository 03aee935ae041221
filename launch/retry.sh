#!/usr/bin/env bash
# Runs a command and repeats it, unchanged, while it ends with 75 (saved and resumable) or 134 (aborted by the
# heartbeat of jax.distributed). Every other code is final and passed through: 0 done, 70 numerical failure,
# 78 the configuration or the input is wrong.
#
#   launch/retry.sh python -m jaxlm.train --config=configs/bert_base.py --workdir=runs/wiki
#   launch/retry.sh launch/gpu_hosts.sh --config=configs/bert_base.py --workdir=/shared/runs/wiki
#   launch/retry.sh --dry_run COMMAND ...         # only print what would run
#
# It gives up, with the last code, after RETRY_MAX restarts in all, or RETRY_STUCK tries in a row without
# progress. Progress is a newer checkpoint in --workdir; where that folder cannot be seen from here, a try
# that lasted RETRY_MIN_SECONDS. SIGTERM, SIGINT and SIGUSR1 are handed on as SIGTERM, and end the repeating.
# Edit: nothing; set the four variables below in the environment.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/dry_run.sh"
source "$(dirname "${BASH_SOURCE[0]}")/ended.sh"

max=${RETRY_MAX:-100}
stuck_max=${RETRY_STUCK:-3}
min_seconds=${RETRY_MIN_SECONDS:-300}
pause=${RETRY_WAIT:-10}

[[ $# -gt 0 ]] || { echo "usage: launch/retry.sh COMMAND [ARGUMENT ...]" >&2; exit 78; }
if [[ ${DRY_RUN:-0} == 1 ]]; then
  said "$@"
  exit 0
fi

workdir='' previous=''
for argument in "$@"; do
  case $argument in --workdir=* | -workdir=*) workdir=${argument#*=} ;; esac
  case $previous in --workdir | -workdir) workdir=$argument ;; esac
  previous=$argument
done

newest_checkpoint() {
  local file step newest=-1
  for file in "$workdir"/checkpoints/*/manifest.json; do
    step=$(basename "$(dirname "$file")")
    if [[ $step =~ ^[0-9]+$ ]] && ((10#$step > newest)); then newest=$((10#$step)); fi
  done
  echo "$newest"
}

child='' stopping=''
hand_on() {
  stopping=yes
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}
trap hand_on TERM INT USR1

wait_for_child() { # sets $code
  [[ -z $stopping ]] || kill -TERM "$child" 2>/dev/null || true # it came before there was a child
  code=0
  ended "$child" || code=$?
}

restarts=0 stuck=0
while true; do
  before=$(newest_checkpoint) started=$SECONDS
  "$@" &
  child=$!
  wait_for_child
  child=''
  last=$code
  case $last in 75 | 134) ;; *) exit "$last" ;; esac
  [[ -z $stopping ]] || exit "$last"

  if [[ -n $workdir && -d $workdir ]]; then
    [[ $(newest_checkpoint) != "$before" ]] && moved=yes || moved=''
  else
    ((SECONDS - started >= min_seconds)) && moved=yes || moved=''
  fi
  [[ -n $moved ]] && stuck=0 || stuck=$((stuck + 1))
  if ((restarts >= max)); then
    echo "retry: code $last after $restarts restarts (RETRY_MAX); giving up" >&2
    exit "$last"
  elif ((stuck >= stuck_max)); then
    echo "retry: code $last, $stuck tries in a row without a new checkpoint (RETRY_STUCK); giving up" >&2
    exit "$last"
  fi
  restarts=$((restarts + 1))
  echo "retry: code $last; restart $restarts of at most $max in $pause s" >&2
  sleep "$pause" &
  child=$!
  wait_for_child
  child=''
  [[ -z $stopping ]] || exit "$last"
done
