#!/usr/bin/env bash
# The single-GPU debug mode: the whole pipeline at a small size, with NaN checks on.
#
#   launch/debug_gpu.sh [--dry-run] [experiments/NAME.py] [--option value ...]
#
# Options go to `drm train`, of experiments/debug.py if no other is named. --dry-run prints the
# command and doesn't run it. GPU=1 picks another GPU than the first.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
read_arguments experiments/debug.py "$@"
find_drm
if [ -n "$DRY_RUN" ]; then
  quoted env "CUDA_VISIBLE_DEVICES=${GPU:-0}" JAX_PLATFORMS=cuda "$DRM" train "${WORDS[@]}"
  exit
fi
if ! command -v nvidia-smi >/dev/null; then
  echo "debug_gpu: no NVIDIA driver here (nvidia-smi not found); on a CPU run:" >&2
  echo "  drm train ${WORDS[0]}" >&2
  exit 1
fi
# exec: Ctrl-C and SIGTERM reach the run itself, which saves first (exit code 130 or 75).
export CUDA_VISIBLE_DEVICES="${GPU:-0}" JAX_PLATFORMS=cuda
exec "$DRM" train "${WORDS[@]}"
