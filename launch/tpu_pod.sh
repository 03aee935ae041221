#!/usr/bin/env bash
# Trains on a TPU VM or pod slice that exists: installs this checkout on all its workers and runs the same
# command on each. The workers find each other.
#
#   TPU=my-pod ZONE=us-central2-b launch/tpu_pod.sh install
#   TPU=my-pod ZONE=us-central2-b launch/retry.sh launch/tpu_pod.sh run --config=... --workdir=gs://bucket/wiki
#   TPU=my-pod ZONE=us-central2-b launch/tpu_pod.sh attach     # follow a run; also after a lost connection
#   TPU=my-pod ZONE=us-central2-b launch/tpu_pod.sh stop       # save and stop
#
# With --dry_run in front (`launch/tpu_pod.sh --dry_run run ...`) the gcloud commands are printed, and not run.
#
# The run does not depend on the connection: `run` starts it where none is running, else follows it. Ctrl-C
# and SIGTERM ask it to save and stop. Ends with the exit code of the run.
# Edit, or set in the environment: TPU, ZONE, PROJECT; SETUP, a command for every worker before each run. --workdir
# is in a bucket that the workers may write, or on a disk that all share, which SETUP mounts:
# 'mountpoint -q /mnt || sudo mount 10.0.0.2:/runs /mnt'.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/dry_run.sh"
source "$(dirname "${BASH_SOURCE[0]}")/ended.sh"

: "${TPU:?the name of the TPU}" "${ZONE:?its zone}"
where=("$TPU" "--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

on_workers() { gcloud compute tpus tpu-vm ssh "${where[@]}" --worker=all --command="$1"; }

install() {
  local archive
  archive=$(mktemp -d)/jaxlm.tgz
  tar -C "$here" -czf "$archive" --exclude=./runs --exclude=./.venv --exclude=./.git --exclude=__pycache__ .
  gcloud compute tpus tpu-vm scp "$archive" "$TPU:jaxlm.tgz" "${where[@]:1}" --worker=all
  rm -r "$(dirname "$archive")"
  # uv brings a Python: the images have 3.10, jaxlm needs 3.11.
  on_workers 'set -e; mkdir -p ~/jaxlm; cd ~/jaxlm; tar xzf ~/jaxlm.tgz; python3 -m pip install -q --user uv
    [ -d .venv ] || python3 -m uv venv -q --python=3.12 .venv
    python3 -m uv pip install -q --python=.venv/bin/python -e ".[tpu,gcs]"'
}

# The lock is held as long as the run lives. gcloud repeats a command whose connection broke: it then follows.
follow='exec 9>&-; touch .log; tail -n +1 -f .log & tail=$!; flock .lock true; sleep 1; kill $tail;
  exit $(cat .code || echo 137)'
stop() { on_workers 'kill -TERM $(cat ~/jaxlm/.pid)'; }

asked=-9
ask() { # launchers signal the group and the process: within 5 s that is one request
  ((SECONDS - asked >= 5)) || return 0
  asked=$SECONDS
  echo "tpu_pod: asking the workers to save and stop" >&2
  stop </dev/null &
}
followed() {
  trap ask TERM INT USR1
  on_workers "$1" </dev/null &
  code=0
  ended $! || code=$?
  exit "$code"
}

case ${1:-} in
  install) install ;;
  run)
    shift
    start=".venv/bin/python -m jaxlm.train $(printf '%q ' "$@")&"
    start+=' echo $! >.pid; wait $!; echo $? >.code'
    followed "cd ~/jaxlm || exit 78; exec 9>.lock
      if flock -n 9; then
        rm -f .code .pid; { ${SETUP:-true}; } || exit 78
        setsid bash -c $(printf %q "$start") >.log 2>&1 </dev/null & fi; $follow" ;;
  attach) followed "cd ~/jaxlm || exit 78; $follow" ;;
  stop) stop ;;
  *)
    echo "usage: TPU=NAME ZONE=ZONE launch/tpu_pod.sh install | run ARGUMENTS | attach | stop" >&2
    exit 78 ;;
esac
