#!/usr/bin/env bash
# Trains on several GPU hosts as one run, one process per host. Two ways:
#
# 1. From one machine, over ssh without a password (this one may be among the hosts):
#      HOSTS="node0 node1" launch/retry.sh launch/gpu_hosts.sh --config=... --workdir=/shared/runs/wiki
# 2. Started by yourself or by a scheduler, on every host, without HOSTS:
#      JAXLM_COORDINATOR=node0:8476 JAXLM_NUM_PROCESSES=2 JAXLM_PROCESS_ID=0 launch/gpu_hosts.sh --config=...
#      (JAXLM_PROCESS_ID=1 on the second host; the coordinator is the host of process 0)
#
# With --dry_run in front of the arguments it prints what it would run, and runs nothing.
#
# Every host needs this checkout at the same path, the same environment, and the same --workdir on a shared
# disk.
# Exit code with HOSTS: 0 when all are done; the first code that is final, if there is one (70, 78, ...);
# else 75: repeat all of them. SIGTERM and Ctrl-C ask every host to save and stop.
# Edit, or set in the environment: HOSTS (user@host is allowed), PORT, DIRECTORY, PYTHON, XLA_PROFILE.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/dry_run.sh"
source "$(dirname "${BASH_SOURCE[0]}")/ended.sh"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
port=${PORT:-8476}
directory=${DIRECTORY:-$here}

if [[ -z ${HOSTS:-} ]]; then
  for name in JAXLM_COORDINATOR JAXLM_NUM_PROCESSES JAXLM_PROCESS_ID; do
    [[ -n ${!name:-} ]] || { echo "$name is not set: set HOSTS, or all three JAXLM_ variables" >&2; exit 78; }
  done
  exec bash "$here/launch/gpu_host.sh" "$@"
fi

read -ra hosts <<<"$HOSTS"
pid_file=/tmp/jaxlm-$port.pid
on_host() { # HOST SCRIPT: without a terminal, and noticing a host that is gone
  ssh -o BatchMode=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=4 "$1" "bash -c $(printf %q "$2")"
}

asked=-9
stop_all() { # launchers signal the group and the process: within 5 s that is one request
  ((SECONDS - asked >= 5)) || return 0
  asked=$SECONDS
  echo "gpu_hosts: asking ${#hosts[@]} hosts to save and stop" >&2
  for host in "${hosts[@]}"; do on_host "$host" "kill -TERM \$(cat $pid_file)" </dev/null & done
}
trap stop_all TERM INT USR1

children=()
for index in "${!hosts[@]}"; do
  script="cd $(printf %q "$directory") || exit 78;"
  script+=" export JAXLM_COORDINATOR=${hosts[0]#*@}:$port JAXLM_NUM_PROCESSES=${#hosts[@]};"
  script+=" export JAXLM_PROCESS_ID=$index XLA_PROFILE=$(printf %q "${XLA_PROFILE:-}");"
  script+=" export PYTHON=$(printf %q "${PYTHON:-python}");"
  script+=" bash launch/gpu_host.sh $(printf '%q ' "$@")&"
  script+=' echo $! >'"$pid_file"'; wait $!; code=$?; rm '"$pid_file"'; exit $code'
  on_host "${hosts[$index]}" "$script" </dev/null &
  children+=($!)
done

final='' again=''
for index in "${!children[@]}"; do
  code=0
  ended "${children[$index]}" || code=$?
  [[ $code == 0 ]] || echo "gpu_hosts: ${hosts[$index]} ended with $code" >&2
  case $code in 0) ;; 75 | 134) again=yes ;; *) final=${final:-$code} ;; esac
done
[[ -z $final ]] || exit "$final"
[[ -z $again ]] || exit 75
