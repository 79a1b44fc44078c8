#!/usr/bin/env bash
# Everything that only a GPU can tell, in at most 8 minutes on one GPU: benchmarks/gpu.py has the
# stages and the options.
#
#   benchmarks/gpu.sh [--only STAGE ...] [--output FOLDER]
#   benchmarks/gpu.sh --cpu        every stage on the CPU, at tiny sizes
#
# GPU=1 takes another GPU than the first. PYTHON=... names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
case " $* " in
  *" --cpu "* | *" --help "* | *" -h "*) ;;
  *)
    if ! command -v nvidia-smi >/dev/null; then
      echo "gpu.sh: no NVIDIA driver here (nvidia-smi not found); --cpu tries the script itself" >&2
      exit 1
    fi
    nvidia-smi
    ;;
esac
export CUDA_VISIBLE_DEVICES="${GPU:-0}"
exec "$PYTHON" -m benchmarks.gpu "$@"
