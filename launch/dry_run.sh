#!/usr/bin/env bash
# Sourced by the other scripts: with --dry_run as their first argument, or DRY_RUN=1, they print the commands that they
# would run, one a line, and run none. Edit: nothing.
set -euo pipefail

if [[ ${1:-} == --dry_run ]]; then
  export DRY_RUN=1
  shift
fi
if [[ ${DRY_RUN:-0} == 1 ]]; then
  said() { printf '%q ' "$@" | sed 's/ $/\n/'; }
  gcloud() { said gcloud "$@"; }
  ssh() { said ssh "$@"; }
  trained() { said "$@"; } # instead of exec
else
  trained() { exec "$@"; }
fi
