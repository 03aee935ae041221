#!/usr/bin/env bash
# Trains as several processes on this machine, each a host of its own: to try out a run of many hosts. On a CPU, where
# devices are virtual. Ends with the exit code of the first process that fails; when one is lost, all are ended.
#
#   launch/local.sh --config=configs/quickstart.py --workdir=runs/two [--config.mesh.fsdp=4 ...]
#   PROCESSES=4 DEVICES=8 launch/local.sh ...
#
# Edit, or set in the environment: PYTHON (default: python), PROCESSES (2), DEVICES of all together (8), DRY_RUN (1: only
# print what would run).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
command=("${PYTHON:-python}" -m jaxlm.runtime.local "${PROCESSES:-2}" "${DEVICES:-8}" -m jaxlm.train "$@")
if [[ ${DRY_RUN:-0} == 1 ]]; then
  printf 'JAX_PLATFORMS=cpu'
  printf ' %q' "${command[@]}"
  printf '\n'
  exit 0
fi
export JAX_PLATFORMS=cpu
exec "${command[@]}"
