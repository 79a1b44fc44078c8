#!/usr/bin/env bash
# The single-GPU debug mode: the whole pipeline at a small size, with NaN checks on.
#
#   launch/debug_gpu.sh [--option value ...]
#
# Options go to `drm train experiments/debug.py`. GPU=1 picks another GPU than the first.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v nvidia-smi >/dev/null; then
  echo "debug_gpu: no NVIDIA driver here (nvidia-smi not found); on a CPU run:" >&2
  echo "  drm train experiments/debug.py" >&2
  exit 1
fi
drm=drm
[ -x .venv/bin/drm ] && drm=.venv/bin/drm
# exec: Ctrl-C and SIGTERM reach the run itself, which saves first (exit code 130 or 75).
export CUDA_VISIBLE_DEVICES="${GPU:-0}" JAX_PLATFORMS=cuda
exec "$drm" train experiments/debug.py "$@"
