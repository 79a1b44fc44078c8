#!/usr/bin/env bash
# Submits a run to a Slurm cluster of GPUs: one process a node, which takes all GPUs given there.
# The job starts itself again, and the run goes on, when it is preempted or its time is over.
#
#   launch/slurm.sh [--dry-run] experiments/NAME.py --workdir /shared/FOLDER [--option value ...]
#
# Options go to `drm train`; the work directory is one that all nodes see, or gs://BUCKET/FOLDER.
# --dry-run prints the command with the job's script, and submits nothing. The project, with its
# .venv, lies where all nodes see it. Settings are variables of the environment:
#
#   NODES        how many (1)
#   GPUS         of each node (8)
#   CPUS         of each node (4 a GPU)
#   PARTITION, ACCOUNT, TIME    as the cluster wants them; its own defaults if not said
#   SBATCH_ARGS  more options of sbatch, split at spaces, such as "--qos=low --mem=200G"
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
read_arguments '' "$@"
find_drm
NODES=${NODES:-1} GPUS=${GPUS:-8}
[[ $NODES =~ ^[1-9][0-9]*$ ]] || refuse "NODES=$NODES: must be a whole number, 1 or more"
[[ $GPUS =~ ^[1-9][0-9]*$ ]] || refuse "GPUS=$GPUS: must be a whole number, 1 or more"
CPUS=${CPUS:-$((4 * GPUS))}
case $WORKDIR in
  '') refuse "say where the run is kept: --workdir /shared/FOLDER, a folder that all nodes see" ;;
  gs://*) log=slurm-%j.log ;;
  *) log=${WORKDIR//%/%%}/slurm-%j.log ;;
esac

# Slurm's SIGTERM (a preemption; --signal, two minutes before the time is over) goes to srun's
# tasks, which are drm itself: it saves and exits with 75, or 143 where it hadn't begun. Not
# "B:TERM", which goes to the job's script alone. Where the script hears it too (scancel), its trap
# makes it wait for drm.
# Not --kill-on-bad-exit, even where the cluster has it by default: the first process that has left
# with 75 could get the others killed, and 137 is no sign to start again. drm ends its other
# processes by itself; --wait is for one that hangs.
# A job that was cancelled, or is queued again by Slurm already, isn't running any more.
IFS= read -r -d '' job <<EOJ || :
#!/usr/bin/env bash
trap : TERM
export JAX_PLATFORMS=\${JAX_PLATFORMS:-cuda}
code=0
srun --ntasks-per-node=1 --cpus-per-task=$CPUS --kill-on-bad-exit=0 --wait=300 \\
  $(quoted "$DRM" train "${WORDS[@]}") || code=\$?
case \$code in 75 | 143) ;; *) exit "\$code" ;; esac
case \$(scontrol show job "\$SLURM_JOB_ID") in *JobState=RUNNING*) ;; *) exit "\$code" ;; esac
echo "slurm: the run was stopped; the job is queued again, to go on"
scontrol requeue "\$SLURM_JOB_ID" ||
  echo "slurm: it can't be queued again here: submit it again to go on" >&2
exit "\$code"
EOJ

job_name=${WORDS[0]##*/}
submit=(
  sbatch --parsable --job-name="drm-${job_name%.py}" --nodes="$NODES" --ntasks-per-node=1
  --gpus-per-node="$GPUS" --cpus-per-task="$CPUS" --requeue --signal=TERM@120 --open-mode=append
  --chdir="$PWD" --output="$log"
)
[ -z "${PARTITION:-}" ] || submit+=(--partition="$PARTITION")
[ -z "${ACCOUNT:-}" ] || submit+=(--account="$ACCOUNT")
[ -z "${TIME:-}" ] || submit+=(--time="$TIME")
# shellcheck disable=SC2206  # split at spaces
submit+=(${SBATCH_ARGS:-})

if [ -n "$DRY_RUN" ]; then
  [[ $WORKDIR == gs://* ]] || quoted mkdir -p "$WORKDIR" # sbatch makes no folder for the log
  echo "$(quoted "${submit[@]}") <<'JOB'"
  printf '%s' "$job"
  echo JOB
  exit
fi
for tool in sbatch "$DRM"; do
  command -v "$tool" >/dev/null && continue
  echo "slurm: $tool not found: run this on a login node of the cluster, after make" >&2
  exit 1
done
[[ $WORKDIR == gs://* ]] || mkdir -p "$WORKDIR"
look="squeue --me --name=drm-${job_name%.py}"
trap 'echo "slurm: stopped; whether a job was submitted shows: $look" >&2; exit 130' INT TERM
if ! id=$("${submit[@]}" < <(printf '%s' "$job")); then
  echo "slurm: not submitted; to see that there is no such job: $look" >&2
  exit 1
fi
id=${id%%;*} # the cluster's name may follow
echo "slurm: job $id is queued, and queues itself again until the run is finished"
echo "  its log:  tail -F $(quoted "${log/\%j/$id}")"
echo "  its end:  scancel $id    (it saves first; this command again goes on)"
