#!/usr/bin/env bash
# Sourced by the other scripts: `ended PID` waits until that child has ended and returns what it ended with.
# bash runs a trap when `wait` returns, and a signal that comes just before `wait` begins does not end it: so it never
# waits longer than a second. Edit: nothing.
set -euo pipefail

ended() {
  while kill -0 "$1" 2>/dev/null; do
    sleep 1 >/dev/null 2>&1 &
    wait -n "$1" $! || true
  done
  wait "$1"
}
