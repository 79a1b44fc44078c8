#!/usr/bin/env bash
# Submits a run to SkyPilot as a managed job, on GPUs or TPUs of whichever cloud has them. Where
# its machines are taken away, SkyPilot finds others, and the run goes on there.
#
#   launch/sky.sh [--dry-run] experiments/NAME.py --workdir gs://BUCKET/FOLDER [--option value ...]
#
# Options go to `drm train`. --dry-run prints the task file that would be submitted, and asks no
# cloud. Settings are variables of the environment:
#
#   ACCELERATORS  as SkyPilot names them: H100:8, those of a node; tpu-v6e-8, a slice (needed)
#   NODES         of GPUs, how many (1)
#   SPOT=1        spot machines, cheaper; may be taken away at any time
#   INFRA         where, such as gcp/us-central1 (wherever it is cheapest)
#   JOB_NAME      of the managed job (drm- and the experiment's name)
#   RESTARTS      how often it is started again after a failure that is no preemption (3)
#
# The run doesn't need this script, which ends when SkyPilot has the job.
# Exit code: 0 submitted; 1 not submitted; 2 wrong usage.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
read_arguments '' "$@"
LC_ALL=C # letters in patterns are those of ASCII

need_bucket "a machine's disk goes with it"
need_own_experiment "which is what is copied"
need_printable
NODES=${NODES:-1} RESTARTS=${RESTARTS:-3}
check_number NODES "$NODES" 1
check_number RESTARTS "$RESTARTS" 0
JOB_NAME=${JOB_NAME:-$(default_name 40)}
check_name JOB_NAME "$JOB_NAME" 40
place='^[a-z0-9]+(/[-a-z0-9]+){0,2}$'
[[ ${INFRA:-gcp} =~ $place ]] || refuse "INFRA=$INFRA: must be such as gcp/us-central1"

resources=("accelerators: ${ACCELERATORS:-}")
[ -z "${SPOT:-}" ] || resources+=("use_spot: true")
[ -z "${INFRA:-}" ] || resources+=("infra: $INFRA")
command=("$(quoted "${WORDS[0]}")") # in parts, as a shell reads them
gpu='^[A-Za-z][-A-Za-z0-9]*:[1-9][0-9]?$' tpu='^tpu-v[0-9]+[a-z]*-[1-9][0-9]*$'
case ${ACCELERATORS:-} in
  '') refuse "say on what: ACCELERATORS=H100:8 or ACCELERATORS=tpu-v6e-8, for example" ;;
  tpu-*)
    [[ $ACCELERATORS =~ $tpu ]] || refuse "ACCELERATORS=$ACCELERATORS: must be such as tpu-v6e-8"
    [ "$NODES" = 1 ] || refuse "NODES=$NODES: a slice of TPUs has its own number of hosts"
    extra=tpu platforms=tpu,cpu # jax asks Google's metadata server about the other hosts
    case $ACCELERATORS in # of others SkyPilot knows it
      tpu-v5litepod-*) resources+=('accelerator_args: {runtime_version: v2-alpha-tpuv5-lite}') ;;
    esac
    ;;
  *)
    [[ $ACCELERATORS =~ $gpu ]] || refuse "ACCELERATORS=$ACCELERATORS: must be such as H100:8"
    extra=gpu platforms=cuda
    # shellcheck disable=SC2016  # variables of the machines
    if ((NODES == 1)); then
      command+=(--num-processes=1)
    else
      command+=(
        '--coordinator="$(head -n 1 <<<"$SKYPILOT_NODE_IPS"):8476" --join-timeout=600'
        '--num-processes="$SKYPILOT_NUM_NODES" --process-id="$SKYPILOT_NODE_RANK"'
      )
    fi
    ;;
esac
rest=$(quoted "${WORDS[@]:1}")
rest=${rest//$'\n'/$'\n  '} # indented, as YAML's block is
bucket=${WORKDIR#gs://}

task() {
  cat <<EOT
name: '$JOB_NAME'
workdir: . # the project, but for what .skyignore names
num_nodes: $NODES
resources:
$(printf '  %s\n' "${resources[@]}")
  job_recovery:
    max_restarts_on_errors: $RESTARTS
    recover_on_exit_codes: [75, 143] # was told to go; doesn't count
setup: bash launch/tpu_worker.sh install $extra,gcs
run: |
  export JAX_PLATFORMS=$platforms JAX_COMPILATION_CACHE_DIR=gs://${bucket%%/*}/drm_programs
  exec .venv/bin/drm train \\
$(printf '    %s \\\n' "${command[@]}")
    $rest
EOT
}

if [ -n "$DRY_RUN" ]; then
  task
  exit
fi
command -v sky >/dev/null || {
  echo "sky: sky not found: pip install 'skypilot[gcp]', in an environment of its own" >&2
  exit 1
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'echo "sky: stopped; whether a job was submitted shows: sky jobs queue" >&2; exit 130' INT TERM
task >"$folder/task.yaml"
sky jobs launch --yes --detach-run "$folder/task.yaml" || {
  echo "sky: not submitted; to see that there is no such job: sky jobs queue" >&2
  exit 1
}
echo "sky: $JOB_NAME is submitted, and is started again until the run is finished"
echo "  its state:  sky jobs queue"
echo "  its log:    sky jobs logs --name $JOB_NAME"
echo "  its end:    sky jobs cancel --name $JOB_NAME    (this command again goes on)"
