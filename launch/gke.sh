#!/usr/bin/env bash
# Submits a run to a GKE cluster as a JobSet: slices of TPUs, or nodes of GPUs, one process a host.
# It waits in a queue of Kueue if you name one. Where hosts are taken away it is started again and
# goes on.
#
#   launch/gke.sh [--dry-run] experiments/NAME.py --workdir gs://BUCKET/FOLDER [--option value ...]
#
# Options go to `drm train`. --dry-run prints the manifest that would be submitted, and asks no
# cluster. Settings are variables of the environment:
#
#   TOPOLOGY   as `drm plan` names it: v5e:4x4, a slice of TPUs; 8xH100, the GPUs of a node (needed)
#   IMAGE      of this project, made by its Dockerfile, with the experiment in it (needed)
#   SLICES     of TPUs, how many (1)
#   NODES      of GPUs, how many (1)
#   SPOT=1     spot nodes, cheaper; may be taken away at any time
#   QUEUE      a LocalQueue of Kueue; without it the run doesn't queue
#   JOB_NAME   of the JobSet (drm- and the experiment's name)
#   NAMESPACE  kubectl's own if not said
#   SERVICE_ACCOUNT  of Kubernetes, that may write to the bucket (the namespace's default)
#   RESTARTS   how often it is started again after a failure that is no preemption (5)
#
# The run doesn't need this script, which ends when the cluster has the JobSet.
# Exit code: 0 submitted; 1 not submitted; 2 wrong usage.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
read_arguments '' "$@"
LC_ALL=C # letters in patterns are those of ASCII

need_bucket "a container's disk goes with it"
need_own_experiment "which is what the image holds"
need_printable

# --- Settings ---

SLICES=${SLICES:-1} NODES=${NODES:-1} RESTARTS=${RESTARTS:-5}
check_number SLICES "$SLICES" 1
check_number NODES "$NODES" 1
check_number RESTARTS "$RESTARTS" 0
JOB_NAME=${JOB_NAME:-$(default_name 40)}
check_name JOB_NAME "$JOB_NAME" 40 # a pod's is up to 22 longer, and may have 63
form='^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$'
for setting in NAMESPACE QUEUE SERVICE_ACCOUNT; do
  value=${!setting:-x}
  [[ $value =~ $form ]] || refuse "$setting=$value: Kubernetes takes no such name"
done
[ -n "${IMAGE:-}" ] || refuse "say which image: IMAGE=us-docker.pkg.dev/PROJECT/drm/drm:tpu"
image='^[a-z0-9]([-a-z0-9._/]|:[0-9]+/)*(:[A-Za-z0-9_][-A-Za-z0-9_.]*)?(@sha256:[0-9a-f]{64})?$'
[[ $IMAGE =~ $image ]] || refuse "IMAGE=$IMAGE: must be such as us-docker.pkg.dev/PROJECT/drm/drm:tpu"

# --- The hardware ---

flat_slice() { # of v5e and v6e
  case $shape in
    1x1) hosts=1 per_host=1 ;;
    2x2) hosts=1 per_host=4 ;;
    2x4) hosts=1 per_host=8 ;;
    4x4 | 4x8 | 8x8 | 8x16 | 16x16) hosts=$((${shape%x*} * ${shape#*x} / 4)) per_host=4 ;;
    *) refuse "TOPOLOGY=$TOPOLOGY: of $chip GKE has 1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16 and 16x16" ;;
  esac
}
cubic_slice() { # MOST_CHIPS, of v4 and v5p
  local x y z sides='^[1-9][0-9]{0,2}x[1-9][0-9]{0,2}x[1-9][0-9]{0,2}$' fits=''
  if [[ $shape =~ $sides ]]; then
    IFS=x read -r x y z <<<"$shape"
    case $shape in
      2x2x1 | 2x2x2 | 2x2x4 | 2x4x4) fits=1 ;;
      *) ((x % 4 || y % 4 || z % 4 || x > y || y > z || x * y * z > $1)) || fits=1 ;;
    esac
  fi
  [ -n "$fits" ] || refuse "TOPOLOGY=$TOPOLOGY: of $chip GKE has 2x2x1, 2x2x2, 2x2x4, 2x4x4, and\
 multiples of 4 that don't fall, such as 4x4x8, up to $1 chips"
  hosts=$((x * y * z / 4)) per_host=4
}
tpus() {
  local label
  chip=${TOPOLOGY%%:*} shape=${TOPOLOGY#*:} job=slice resource=google.com/tpu platforms=tpu,cpu
  case $chip in
    v4) label=tpu-v4-podslice && cubic_slice 4096 ;;
    v5e) label=tpu-v5-lite-podslice && flat_slice ;;
    v5p) label=tpu-v5p-slice && cubic_slice 8960 ;;
    v6e) label=tpu-v6e-slice && flat_slice ;;
    *) refuse "TOPOLOGY=$TOPOLOGY: known TPUs are v4, v5e, v5p and v6e" ;;
  esac
  selectors="cloud.google.com/gke-tpu-accelerator: $label
              cloud.google.com/gke-tpu-topology: $shape"
  [ "$NODES" = 1 ] || refuse "NODES=$NODES: a slice of TPUs has its own number of hosts: use SLICES"
  [ "$SLICES" = 1 ] || [ "$hosts" != 1 ] ||
    refuse "SLICES=$SLICES: GKE joins slices of several hosts only, and $TOPOLOGY is one host"
}
gpus() {
  local label form='^([1-9][0-9]?)x(.+)$'
  [[ $TOPOLOGY =~ $form ]] || refuse "TOPOLOGY=$TOPOLOGY: must be such as v5e:4x4 or 8xH100"
  job=node hosts=$NODES per_host=${BASH_REMATCH[1]} resource=nvidia.com/gpu platforms=cuda
  case ${BASH_REMATCH[2]} in
    T4) label=nvidia-tesla-t4 ;;
    V100) label=nvidia-tesla-v100 ;;
    L4) label=nvidia-l4 ;;
    A100) label=nvidia-a100-80gb ;;
    H100) label=nvidia-h100-80gb ;;
    H200) label=nvidia-h200-141gb ;;
    B200) label=nvidia-b200 ;;
    *) refuse "TOPOLOGY=$TOPOLOGY: known GPUs are T4, V100, L4, A100, H100, H200 and B200" ;;
  esac
  [[ $per_host == [1248] ]] || refuse "TOPOLOGY=$TOPOLOGY: a node has 1, 2, 4 or 8 GPUs"
  selectors="cloud.google.com/gke-accelerator: $label"
  [ "$SLICES" = 1 ] || refuse "SLICES=$SLICES: GPUs come in nodes: use NODES"
}
case ${TOPOLOGY:-} in
  '') refuse "say on what: TOPOLOGY=v5e:4x4 or TOPOLOGY=8xH100, for example" ;;
  v*) tpus ;;
  *) gpus ;;
esac

# --- The manifest ---

argument() { # of a container, in YAML; Kubernetes replaces $(NAME), and $$ by $
  local i letter text=''
  for ((i = 0; i < ${#1}; i++)); do
    letter=${1:i:1}
    case $letter in
      '"' | \\) text+=\\$letter ;;
      '$') text+='$$' ;;
      $'\n') text+='\n' ;;
      $'\t') text+='\t' ;;
      *) text+=$letter ;;
    esac
  done
  printf '              - "%s"\n' "$text"
}
arguments() {
  local word
  # How the processes find each other: on TPUs jax reads what GKE's webhook tells each container;
  # one host alone needs nothing. Some come late, since each node fetches the image by itself.
  local together=(--join-timeout=600)
  if ((hosts == 1)); then
    together=(--num-processes=1)
  elif [ "$job" = node ]; then
    together+=("--coordinator=$JOB_NAME-node-0-0.$JOB_NAME:8476" "--num-processes=$hosts")
  fi
  for word in train "${WORDS[0]}" "${together[@]}" "${WORDS[@]:1}"; do argument "$word"; done
  if [ "$job" = node ] && ((hosts > 1)); then
    # shellcheck disable=SC2016  # Kubernetes replaces it
    echo '              - "--process-id=$(JOB_COMPLETION_INDEX)"'
  fi
}

exclusive='' root='' mistakes=2
if [ "$job" = slice ]; then
  root=1
  ports=(8471 8431 8080 8482) # libtpu's, its metrics', between slices, jax's
  ((hosts == 1)) || exclusive=1
else
  ports=(8476)
fi
# A process ends with 1 too when another is gone: only of one alone is that a failure of its own.
((hosts > 1)) || mistakes='1, 2'
bucket=${WORKDIR#gs://} spot=cloud.google.com/gke-spot

where() { # SETTING LINE...: the lines, where it is set
  [ -z "$1" ] || printf '%s\n' "${@:2}"
}
manifest() {
  local line
  while IFS= read -r line; do
    [ -z "$line" ] || printf '%s\n' "$line" # empty: a setting that isn't set
  done <<EOM
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: '$JOB_NAME'
$(where "${NAMESPACE:-}" "  namespace: '${NAMESPACE:-}'")
$(where "${QUEUE:-}" '  labels:' "    kueue.x-k8s.io/queue-name: '${QUEUE:-}'")
$(where "$exclusive" '  annotations: # a slice is a node pool of its own' \
    '    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool')
spec:
  failurePolicy:
    maxRestarts: $RESTARTS
    restartStrategy: BlockingRecreate # the old pods have saved before new ones begin
    rules: # a failure that none names is restarted, and counted
    - name: preempted
      action: RestartJobSetAndIgnoreMaxRestarts
      onJobFailureReasons: [PodFailurePolicy]
      onJobFailureMessagePatterns: ['matching FailJob rule at index [01]$']
    - name: mistake
      action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
      onJobFailureMessagePatterns: ['matching FailJob rule at index 2$']
  replicatedJobs:
  - name: $job
    replicas: $SLICES
    template:
      spec:
        completionMode: Indexed
        completions: $hosts
        parallelism: $hosts
        backoffLimit: 0
        podFailurePolicy:
          rules:
          - action: FailJob # 0: was told to go
            onExitCodes: {containerName: drm, operator: In, values: [75, 143]}
          - action: FailJob # 1: was taken away
            onPodConditions: [{type: DisruptionTarget, status: 'True'}]
          - action: FailJob # 2: would fail again
            onExitCodes: {containerName: drm, operator: In, values: [$mistakes]}
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 600 # for a step and a save
$(where "${SERVICE_ACCOUNT:-}" "            serviceAccountName: '${SERVICE_ACCOUNT:-}'")
$(where "$root" "            securityContext: {runAsUser: 0} # the device files of TPUs are root's")
            nodeSelector:
              $selectors
$(where "${SPOT:-}" "              $spot: 'true'")
            tolerations:
            - {key: $resource, operator: Exists, effect: NoSchedule}
$(where "${SPOT:-}" \
    "            - {key: $spot, operator: Equal, value: 'true', effect: NoSchedule}")
            containers:
            - name: drm
              image: '$IMAGE'
              args:
$(arguments)
              env:
              - {name: JAX_PLATFORMS, value: '$platforms'}
              - {name: JAX_COMPILATION_CACHE_DIR, value: 'gs://${bucket%%/*}/drm_programs'}
              ports:
$(printf '              - {containerPort: %s}\n' "${ports[@]}")
              resources:
                requests: {$resource: $per_host}
                limits: {$resource: $per_host}
              volumeMounts:
              - {name: shm, mountPath: /dev/shm}
            volumes:
            - name: shm # the container's own has 64 MB
              emptyDir: {medium: Memory}
EOM
}

if [ -n "$DRY_RUN" ]; then
  manifest
  exit
fi

# --- Submitting ---

kubectl=(kubectl ${NAMESPACE:+--namespace="$NAMESPACE"})
command -v kubectl >/dev/null || {
  echo "gke: kubectl not found: install it, and gcloud container clusters get-credentials CLUSTER" >&2
  exit 1
}
failed() {
  echo "gke: not submitted; to see that there is no such job: $(quoted "${kubectl[@]}" get jobset)" >&2
  exit 1
}
trap 'echo "gke: stopped; what was submitted shows: $(quoted "${kubectl[@]}" get jobset)" >&2; exit 130' INT TERM
ended='jsonpath={.metadata.name} {.status.terminalState}'
there=$("${kubectl[@]}" get jobset "$JOB_NAME" --ignore-not-found --output="$ended") || failed
case $there in
  '') ;;
  *' Completed' | *' Failed')
    echo "gke: $JOB_NAME of an earlier start has ended (${there#* }): deletes it"
    "${kubectl[@]}" delete jobset "$JOB_NAME" || failed
    ;;
  *)
    echo "gke: $JOB_NAME is there already: delete it first, or choose another JOB_NAME" >&2
    exit 1
    ;;
esac
manifest | "${kubectl[@]}" create --filename=- || failed
first="jobset.sigs.k8s.io/jobset-name=$JOB_NAME,jobset.sigs.k8s.io/job-index=0,\
batch.kubernetes.io/job-completion-index=0"
echo "gke: $JOB_NAME is submitted, and is started again until the run is finished"
echo "  its state:  $(quoted "${kubectl[@]}" get jobset "$JOB_NAME")"
echo "  its log:    $(quoted "${kubectl[@]}" logs --follow --selector="$first")"
echo "  its end:    $(quoted "${kubectl[@]}" delete jobset "$JOB_NAME")"
echo "It saves before it ends; this command, given again, goes on."
