#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud: asks for it, waits, copies the project to all of its hosts,
# starts the run there and watches it, asks anew when the slice is taken away, deletes it at the end.
#
#   launch/tpu_vm.sh [--dry-run] experiments/NAME.py --workdir gs://BUCKET/FOLDER [--option value ...]
#
# Options go to `drm train`. --dry-run prints the commands and runs none. Settings are variables of
# the environment:
#
#   TPU_TYPE      of the slice, such as v5litepod-16 (needed)
#   TPU_ZONE      such as us-west4-a (needed)
#   TPU_PROJECT   gcloud's own project if not said
#   TPU_NAME      of the queued resource and its node (drm- and the experiment's name)
#   TPU_RUNTIME   the machines' software version (by TPU_TYPE)
#   TPU_SPOT=1    a spot slice, cheaper; may be taken away at any time
#   TPU_KEEP=1    the machines stay when the run has ended, also badly
#   TPU_RESTARTS  how often a slice that was taken away is asked for anew (100)
#   TPU_ARGS      more options of gcloud's create, split at spaces, such as "--network=NAME"
#   POLL_SECONDS  between two looks (30)
#
# The run doesn't need this script: it goes on when the connection breaks or the terminal is closed,
# and the same command watches it again. Ctrl-C while it waits for machines deletes the request;
# once the run is on, it only stops watching. Each end says what is left in Google Cloud.
# Exit code: drm's own; 1 where there were no machines, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
set -euo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"
read_arguments '' "$@"

need_bucket "the hosts of a slice share no disk"
need_own_experiment "which is what is copied"
[ -n "${TPU_TYPE:-}" ] || refuse "say which slice: TPU_TYPE=v5litepod-16, for example"
[ -n "${TPU_ZONE:-}" ] || refuse "say where: TPU_ZONE=us-west4-a, for example"
case $TPU_TYPE in
  v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  *) runtime='' ;;
esac
runtime=${TPU_RUNTIME:-$runtime}
[ -n "$runtime" ] || refuse "TPU_TYPE=$TPU_TYPE isn't known here: say its TPU_RUNTIME too"
name=${TPU_NAME:-$(default_name 60)}
check_name TPU_NAME "$name" 63
restarts=${TPU_RESTARTS:-100}
check_number TPU_RESTARTS "$restarts" 0
poll_seconds=${POLL_SECONDS:-30}

where=(--zone="$TPU_ZONE" --quiet) # quiet: no questions
[ -z "${TPU_PROJECT:-}" ] || where+=(--project="$TPU_PROJECT")
id=$(printf '%s\n' "${WORDS[@]}" | cksum | tr ' ' -) # of this command line; a host's run has one
worker='bash drm_jax/launch/tpu_worker.sh'
hang_seconds=${HANG_SECONDS:-180} # drm's processes end within 60 s of one another

say() { # whoever reads may be gone; the work here goes on
  echo "${DRY_RUN:+# }tpu_vm: $*" || :
}
tpus() {
  run gcloud compute tpus "$@" "${where[@]}" </dev/null
}
on() { # HOST|all COMMAND. A host that is gone must not hold us for ever.
  tpus tpu-vm ssh "$name" --worker="$1" --command="$2" \
    --ssh-flag=-oConnectTimeout=20 --ssh-flag=-oServerAliveInterval=15
}

# --- What is there, and what an end leaves ---

phase=waiting # for machines; "preparing" them; "running"
absent='NOT_FOUND|was not found'
left=unknown  # "yes" where there is, or may be, a queued resource; "no"

at_exit() {
  local code=$?
  rm -rf "$temporary"
  if [ "$left" = no ]; then
    say "nothing is left in Google Cloud but the work directory"
  elif [ "$left" = unknown ]; then
    say "nothing was asked for"
  else
    DRY_RUN=1 # what follows is text
    {
      echo "tpu_vm: STILL THERE: queued resource $name in $TPU_ZONE; its machines cost money"
      echo "  to watch the run again, or start it again:  $(again)"
      echo "  to stop the run, saved:  $(on all "$worker stop")"
      echo "  to delete the machines:  $(delete)"
    } >&2
  fi
  exit "$code"
}
again() {
  local words=(env) variable
  for variable in ${!TPU_*}; do words+=("$variable=${!variable}"); done
  quoted "${words[@]}" "launch/$SCRIPT.sh" "${WORDS[@]}"
}
delete() { tpus queued-resources delete "$name" --force; }

interrupted() { # CODE
  trap '' INT TERM HUP # what follows is not to be cut off
  kill "${sleeper:-}" 2>/dev/null || :
  if [ "$phase" = running ]; then
    say "stops watching; what runs on the machines goes on"
  elif [ "$left" = yes ] && { [ "$phase" = waiting ] || [ -z "${TPU_KEEP:-}" ]; }; then
    say "stopped before the run was started"
    remove || :
  fi
  exit "$1"
}
pause() { # which a signal ends at once
  # A signal may come before its number is known: left behind, it must hold nobody's pipe open.
  sleep "$poll_seconds" >/dev/null 2>&1 &
  sleeper=$!
  wait "$sleeper" || :
  sleeper=''
}

look() { # WHAT FIELD: its state; ABSENT; nothing where gcloud doesn't answer
  if tpus "$1" describe "$name" --format="value($2)" 2>"$temporary/error"; then return; fi
  ! grep -qE "$absent" "$temporary/error" || echo ABSENT
}
is_gone() { # whether the slice was taken away; silence is no sign of that
  case $(look queued-resources state.state) in
    FAILED | SUSPENDING | SUSPENDED | DELETING | ABSENT) return 0 ;;
  esac
  case $(look tpu-vm state) in
    PREEMPTED | TERMINATED | STOPPING | STOPPED | DELETING | ABSENT) return 0 ;;
  esac
  return 1
}
remove() {
  say "deletes queued resource $name in $TPU_ZONE"
  if delete 2>"$temporary/error" || grep -qE "$absent" "$temporary/error"; then
    left=no phase=waiting
  else
    cat "$temporary/error" >&2
    return 1
  fi
}

# --- Getting machines. 0: there are; 1: no; 75: not now, try again ---

ask() {
  local words=(
    queued-resources create "$name" --node-id="$name" --accelerator-type="$TPU_TYPE"
    --runtime-version="$runtime"
  )
  [ -z "${TPU_SPOT:-}" ] || words+=(--spot)
  # shellcheck disable=SC2206  # split at spaces
  words+=(${TPU_ARGS:-})
  say "asks for $TPU_TYPE in $TPU_ZONE, queued resource $name"
  left=yes phase=waiting # whatever gcloud says now
  tpus "${words[@]}"
}

get_machines() { # ATTEMPT
  local state before='' looks=0 start=$SECONDS no=$(($1 ? 75 : 1)) # a failing restart is no end
  while :; do
    state=$(look queued-resources state.state)
    case $state in SUSPENDING | DELETING) pause ;; *) break ;; esac
  done
  case $state in
    '')
      cat "$temporary/error" >&2
      return "$no"
      ;;
    ABSENT) left=no ;;
    FAILED | SUSPENDED)
      say "$name of an earlier start is there, but $state"
      left=yes
      remove || return "$no"
      state=ABSENT
      ;;
    *)
      say "$name is there already: goes on with it"
      left=yes phase=waiting
      [ "$state" != ACTIVE ] || phase=running # or not; that is asked below
      ;;
  esac
  if [ "$state" = ABSENT ] && ! ask; then
    say "the request was refused"
    return "$no"
  fi
  while :; do
    state=$(look queued-resources state.state)
    case $state in
      ACTIVE) break ;;
      SUSPENDING | SUSPENDED | DELETING | ABSENT) return 75 ;;
      FAILED)
        say "the request has failed:"
        tpus queued-resources describe "$name" --format='value(state)' >&2 || :
        return "$no"
        ;;
    esac
    if [ "$state" != "$before" ] || ((++looks % 20 == 0)); then
      say "waits for machines: ${state:-gcloud does not answer}, $((SECONDS - start)) s"
      before=$state
    fi
    pause
  done
  say "the machines are there, after $((SECONDS - start)) s"
}

# --- The run ---

copy() {
  local archive=${temporary:-/tmp}/drm_jax.tgz
  # Hidden files (.git, .venv, keys) and results stay here.
  run tar -czf "$archive" --exclude './.*' --exclude ./runs --exclude __pycache__ . &&
    tpus tpu-vm scp "$archive" "$name:drm_jax.tgz" --worker=all &&
    on all "mkdir -p drm_jax && find drm_jax -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +\
 && tar -xzf drm_jax.tgz -C drm_jax && $worker install tpu,gcs"
}
start() { on all "$worker start $id $(quoted "${WORDS[@]}")"; }
ask_hosts() { on all "[ ! -d drm_jax/launch ] || $worker status"; }

begin() {
  local answers
  if ! answers=$(ask_hosts 2>"$temporary/error"); then
    cat "$temporary/error" >&2
    say "the hosts can't be reached through ssh"
    if [ "$phase" = running ] && ! is_gone; then exit 1; fi # maybe a run is on: hands off
    return 1
  fi
  if [[ $answers == *" running "* ]]; then
    if [[ $answers != *" running $id"* ]]; then
      say "$name runs another command: choose another TPU_NAME for this one"
      exit 2
    fi
    say "the run is under way: watches it"
    return
  fi
  phase=preparing
  say "copies the project to all hosts, and installs it"
  copy || return
  say "starts the run on all hosts"
  phase=running
  start
}

show_log() {
  on 0 "$worker log $((shown + 1))" >"$temporary/log" 2>/dev/null || :
  cat "$temporary/log" || :
  shown=$((shown + $(wc -c <"$temporary/log")))
}

# The hosts' answers in one: a failure, else 75, else 0, else none. A host that was restarted, or
# told to go before drm had begun (143), explains what the others say.
code_of() {
  local code=none what value
  while read -r _ what value; do
    case $what,$value in
      lost,* | ended,143) code=75 && break ;;
      ended,0) code=${code/none/0} ;;
      ended,75) case $code in none | 0) code=75 ;; esac ;;
      ended,*) case $code in none | 0 | 75) code=$value ;; esac ;;
    esac
  done <<<"$1"
  echo "$code"
}

watch() { # until the run has ended; its exit code, or 75 where the slice was taken away
  local answers code failing='' reached=1 shown=0
  while ! is_gone; do
    if answers=$(ask_hosts 2>"$temporary/error"); then
      reached=1
      show_log
      code=$(code_of "$answers")
      [[ $answers == *" running "* ]] || return "${code/none/1}"
      case $code in
        none | 0) ;;
        *)
          failing=${failing:-$SECONDS}
          ((SECONDS - failing < hang_seconds)) || return "$code"
          ;;
      esac
    elif [ -n "$reached" ]; then
      say "the hosts can't be reached through ssh; tries again"
      reached=''
    fi
    pause
  done
  return 75
}

finish() { # CODE WHY
  say "$2"
  [ -n "${TPU_KEEP:-}" ] || remove || :
  exit "$1"
}

if [ -n "$DRY_RUN" ]; then
  say "looks whether it is there already; then it goes on with it"
  tpus queued-resources describe "$name" --format='value(state.state)'
  ask
  say "waits until the state is ACTIVE, then copies the project, installs and starts it"
  copy
  start
  say "every $poll_seconds s: the states, the exit codes, the log of host 0"
  tpus queued-resources describe "$name" --format='value(state.state)'
  tpus tpu-vm describe "$name" --format='value(state)'
  ask_hosts
  on 0 "$worker log 1"
  say "at the end, and before it asks anew for a slice that was taken away (at most $restarts times)"
  delete
  exit
fi
command -v gcloud >/dev/null || {
  echo "tpu_vm: gcloud not found: install Google Cloud's command line tools" >&2
  exit 1
}
temporary=$(mktemp -d)
trap at_exit EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP
trap '' PIPE

for ((attempt = 0; ; attempt++)); do
  code=0
  get_machines "$attempt" || code=$?
  if [ "$code" = 1 ]; then
    [ "$left" != yes ] || remove || :
    exit 1
  fi
  if [ "$code" = 0 ]; then
    if begin; then
      watch || code=$?
      why="the run has ended with code $code"
    else
      code=1 why="the run couldn't be started"
    fi
    [ "$code" != 0 ] || finish 0 "the run is finished"
    if [ "$code" != 75 ] && ! is_gone; then
      on all "$worker last" 2>/dev/null || :
      finish "$code" "$why"
    fi
  fi
  ((attempt < restarts)) || finish 75 "preempted once more: doesn't ask anew"
  say "preempted: asks anew, $((attempt + 1)) of at most $restarts times"
  remove || :
  pause
done
