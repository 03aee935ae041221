#!/usr/bin/env bash
# Trains on all GPUs of this host, in one process. CUDA_VISIBLE_DEVICES is respected. Ends with the exit code
# of the run; put launch/retry.sh in front to repeat it.
#
#   launch/gpu_host.sh --config=configs/bert_base.py --workdir=runs/wiki [--config.mesh.fsdp=4 ...]
#   XLA_PROFILE=deterministic launch/gpu_host.sh ...
#   launch/gpu_host.sh --dry_run ...              # only print what would run
#
# Edit, or set in the environment: PYTHON (default: python), XLA_PROFILE:
#   (empty)        XLA's defaults, and what a run says under "compiler" (--config.compiler_options=none: nothing)
#   deterministic  the same bits in every run on the same GPUs; slower
# XLA_FLAGS of your own are kept and have precedence.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/dry_run.sh"

case ${XLA_PROFILE:-} in
  '') flags='' ;;
  deterministic) flags='--xla_gpu_deterministic_ops=true' ;;
  *) echo "XLA_PROFILE=$XLA_PROFILE: allowed are deterministic, or nothing" >&2; exit 78 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
trained ${flags:+env "XLA_FLAGS=$flags ${XLA_FLAGS:-}"} "${PYTHON:-python}" -m jaxlm.train "$@"
