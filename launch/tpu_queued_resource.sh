#!/usr/bin/env bash
# Trains on a spot TPU: creates it as a queued resource, waits for it, installs, runs; creates it again after
# a preemption and continues, until the run is done. Start it on a machine that stays on.
#
#   TPU=my-spot ZONE=us-east5-b TYPE=v6e-64 RUNTIME=v2-alpha-tpuv6e \
#     launch/tpu_queued_resource.sh --config=configs/bert_base.py --workdir=gs://bucket/wiki
#
# With --dry_run in front of the arguments it prints the commands of a TPU that is never preempted.
#
# Ends with the exit code of the run and deletes the TPU then, whatever the code (KEEP=1: it stays, and
# costs). Ctrl-C during the run saves first; before it, the TPU stays in the queue. One that exists is used.
# At most MAX_RESTARTS restarts and new TPUs.
# Edit, or set in the environment: the variables above, PROJECT, KEEP, MAX_RESTARTS, POLL (seconds). --workdir
# is in a bucket, or on a disk that outlives the TPU: SETUP mounts it on every worker (tpu_pod.sh).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/dry_run.sh"
source "$(dirname "${BASH_SOURCE[0]}")/ended.sh"

: "${TPU:?a name for the TPU}" "${ZONE:?its zone}" "${TYPE:?v6e-64, ...}" "${RUNTIME:?v2-alpha-tpuv6e, ...}"
at=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
poll=${POLL:-60}
max=${MAX_RESTARTS:-100}
queued=(gcloud compute tpus queued-resources)

queue_state() { "${queued[@]}" describe "$TPU" "${at[@]}" --format='value(state.state)' 2>/dev/null || true; }
node_state() {
  gcloud compute tpus tpu-vm describe "$TPU" "${at[@]}" --format='value(state)' 2>/dev/null || true
}
delete() { "${queued[@]}" delete "$TPU" "${at[@]}" --force --quiet; }
create() {
  "${queued[@]}" create "$TPU" "${at[@]}" --node-id="$TPU" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" --spot
}
if [[ ${DRY_RUN:-0} == 1 ]]; then
  create
  bash "$here/tpu_pod.sh" install
  bash "$here/tpu_pod.sh" run "$@"
  [[ -n ${KEEP:-} ]] || delete
  exit 0
fi

get_tpu() { # returns when the TPU is there, with jaxlm on it
  local state shown=''
  while true; do
    state=$(queue_state)
    [[ $state == "$shown" ]] || echo "tpu_queued_resource: $TPU is ${state:-not there}" >&2
    shown=$state
    case $state in
      ACTIVE)
        case $(node_state) in
          READY) break ;;
          PREEMPTED | TERMINATED) delete ;;
        esac ;;
      SUSPENDED) delete ;;
      FAILED) delete; return 1 ;; # counts as a restart: it may fail for ever
      '')
        create || exit 78 ;;
    esac
    sleep "$poll"
  done
  bash "$here/tpu_pod.sh" install
}

child='' stopping=''
hand_on() {
  stopping=yes
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}

restarts=0
while true; do
  trap - TERM INT USR1
  if ! get_tpu; then
    code=1
  else
    trap hand_on TERM INT USR1
    bash "$here/tpu_pod.sh" run "$@" &
    child=$!
    [[ -z $stopping ]] || kill -TERM "$child" 2>/dev/null || true # it came before there was a child
    code=0
    ended "$child" || code=$?
    child=''
  fi
  case $code in
    0 | 70 | 78) break ;;
    75 | 134) ;;
    *) # of the run, or because the TPU is gone
      sleep "$poll"
      if [[ $(queue_state) == ACTIVE && $(node_state) == READY ]]; then break; fi ;;
  esac
  [[ -z $stopping ]] || break
  if ((restarts >= max)); then
    echo "tpu_queued_resource: code $code after $restarts restarts (MAX_RESTARTS); giving up" >&2
    break
  fi
  restarts=$((restarts + 1))
  echo "tpu_queued_resource: code $code; restart $restarts of at most $max" >&2
done
[[ -n ${KEEP:-} ]] || delete
exit "$code"
