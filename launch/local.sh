#!/usr/bin/env bash
# Trains as several processes on this machine, each a host of its own: to try out a run of many hosts. On a CPU, where
# devices are virtual. Ends with the exit code of the first process that fails; when one is lost, all are ended.
#
#   launch/local.sh --config=configs/quickstart.py --workdir=runs/two [--config.mesh.fsdp=4 ...]
#   PROCESSES=4 DEVICES=8 launch/local.sh ...
#   launch/local.sh --dry_run ...                 # only print what would run
#
# Edit, or set in the environment: PYTHON (default: python), PROCESSES (2), DEVICES of all together (8).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/dry_run.sh"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
trained env JAX_PLATFORMS=cpu "${PYTHON:-python}" -m jaxlm.runtime.local "${PROCESSES:-2}" "${DEVICES:-8}" \
  -m jaxlm.train "$@"
