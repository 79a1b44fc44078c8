#!/usr/bin/env bash
# What launch/tpu_vm.sh has done on each host of a slice, through ssh; launch/sky.sh the first alone.
#
#   install EXTRAS an environment with drm, in the project's .venv; extras such as tpu,gcs
#   start ID WORD… `drm train WORD…`, which goes on without this connection; once
#   status         one line: the host, then "running ID", "ended CODE", or "lost" after a restart
#   log N          the run's output from its N-th byte on
#   last           the end of that output, if the run has failed here
#   stop           as Ctrl-C does: the run saves and ends with 130
set -euo pipefail
cd "$(dirname "$0")/.."
state=$HOME/drm_run
mkdir -p "$state"

install() {
  local python
  if [ ! -x .venv/bin/pip ]; then
    for python in python3.12 python3.11 python3.13; do
      command -v "$python" >/dev/null && "$python" -m venv .venv >/dev/null 2>&1 && break
      rm -rf .venv
    done
  fi
  # Images of TPU VMs come with Python 3.10. uv brings a newer one.
  if [ ! -x .venv/bin/pip ]; then
    if ! { PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv &&
      python3 -m uv venv --quiet --seed --python 3.12 .venv; }; then
      echo "$(hostname): there is no Python 3.11 or newer here, and uv can't bring one" >&2
      return 1
    fi
  fi
  .venv/bin/pip install --quiet --constraint constraints.txt --editable ".[$1]"
}

is_free() { # whether nothing runs; the lock is the run's as long as it lives, whatever ends it
  exec 9>>"$state/lock"
  flock --nonblock 9
}

start() {
  if ! is_free; then
    echo "$(hostname): a run is under way already; not started again"
    return
  fi
  rm -f "$state/code"
  echo "$1" >"$state/id"
  shift
  set -m # a process group of its own, and Ctrl-C isn't ignored in it
  nohup bash launch/tpu_worker.sh run "$@" >"$state/log" 2>&1 </dev/null &
  echo $! >"$state/pid"
}

run() { # behind start: the signals are for drm; its exit code has to be kept
  trap : INT TERM
  local code=0
  JAX_PLATFORMS=tpu,cpu .venv/bin/drm train "$@" || code=$?
  echo "$code" >"$state/code.new"
  mv "$state/code.new" "$state/code"
}

status() {
  if ! is_free; then
    echo "$(hostname) running $(cat "$state/id")"
  elif [ -e "$state/code" ]; then
    echo "$(hostname) ended $(cat "$state/code")"
  elif [ -e "$state/id" ]; then
    echo "$(hostname) lost"
  fi
}

last() {
  if [ "$(cat "$state/code" 2>/dev/null)" != 0 ]; then
    tail -n 20 "$state/log" | sed "s/^/$(hostname): /"
  fi
}

case $1 in
  install | start | run | status | last) "$@" ;;
  log) tail -c "+$2" "$state/log" ;;
  stop) is_free || kill -INT -- "-$(cat "$state/pid")" ;;
  *) echo "tpu_worker: $1: no such command" >&2 && exit 2 ;;
esac
