# shellcheck shell=bash disable=SC2034  # DRM and WORKDIR are for those who source it
# What the launch scripts share. Sourced first; from then on the project's root is the folder.

SCRIPT=${0##*/}
SCRIPT=${SCRIPT%.sh}
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

usage() { # the comment at a script's top
  local line
  while IFS= read -r line; do
    case $line in
      '#!'*) ;;
      '#'*) line=${line#'#'} && echo "${line# }" ;;
      *) break ;;
    esac
  done <"launch/$SCRIPT.sh"
}

refuse() { # wrong usage, in one line
  echo "$SCRIPT: $*" >&2
  exit 2
}

# What the command line says, as DRY_RUN, WORDS (the experiment and its options) and WORKDIR.
# The first argument is the experiment if none is named. --dry-run counts wherever it stands: it
# must not cost money for standing in the wrong place.
read_arguments() {
  local default=$1 word before=''
  shift
  DRY_RUN='' WORKDIR='' WORDS=()
  for word; do
    case $word in
      -h | --help) usage && exit 0 ;;
      --dry-run) DRY_RUN=1 && continue ;;
      --workdir=*) WORKDIR=${word#*=} ;;
    esac
    [ "$before" != --workdir ] || WORKDIR=$word
    WORDS+=("$word") before=$word
  done
  case ${WORDS[0]:-} in
    '' | -*)
      [ -n "$default" ] || refuse "name an experiment first: launch/$SCRIPT.sh experiments/demo.py"
      WORDS=("$default" ${WORDS[@]+"${WORDS[@]}"}) # bash 3 takes an empty array for unset
      ;;
  esac
  WORDS[0]=${WORDS[0]#"$PWD/"}
  [ -f "${WORDS[0]}" ] || refuse "${WORDS[0]}: there is no such file (looked for in $PWD)"
}

need_bucket() { # WHY: refuses another work directory
  local form='^gs://[a-z0-9][-a-z0-9._]*(/|$)'
  [ -n "$WORKDIR" ] || refuse "say where the run is kept: --workdir gs://BUCKET/FOLDER"
  [[ $WORKDIR =~ $form ]] || refuse "--workdir $WORKDIR: $1: use gs://BUCKET/FOLDER"
}

need_own_experiment() { # WHY: refuses one that lies elsewhere
  case ${WORDS[0]} in
    /* | ../* | */../*) refuse "${WORDS[0]}: must lie in the project, $1" ;;
  esac
}

need_printable() { # refuses words with control characters, but for line breaks and tabs
  local word
  for word in "${WORDS[@]}"; do
    case ${word//[$'\n\t']/} in
      *[[:cntrl:]]*) refuse "an option has a control character: $(printf %q "$word")" ;;
    esac
  done
}

check_number() { # SETTING VALUE LEAST
  local digits='^(0|[1-9][0-9]{0,3})$'
  if [[ ! $2 =~ $digits ]] || (($2 < $3)); then
    refuse "$1=$2: must be a whole number, $3 to 9999"
  fi
}

check_name() { # SETTING VALUE MOST, as Google Cloud and Kubernetes take names
  local form='^[a-z]([-a-z0-9]*[a-z0-9])?$'
  if [[ ! $2 =~ $form ]] || ((${#2} > $3)); then
    refuse "$1=$2: must be small letters, digits and -, $3 at most, such as drm-1"
  fi
}

default_name() { # MOST: drm- and the experiment's name
  local name=${WORDS[0]##*/}
  name=$(printf 'drm-%s' "${name%.py}" | tr '[:upper:]' '[:lower:]' | tr -c '[:alnum:]' - |
    cut -c "1-$1")
  echo "${name%-}"
}

find_drm() { # the project's own environment first
  DRM=drm
  [ ! -x .venv/bin/drm ] || DRM=.venv/bin/drm
}

quoted() { # words in one line, as any shell reads them back
  local word space=''
  for word; do
    printf '%s' "$space"
    case $word in
      '' | *[!a-zA-Z0-9_./:=@%+,-]*)
        printf "'"
        while [[ $word == *\'* ]]; do
          printf "%s'\\\\''" "${word%%\'*}"
          word=${word#*\'}
        done
        printf "%s'" "$word"
        ;;
      *) printf '%s' "$word" ;;
    esac
    space=' '
  done
  echo
}

run() { # a command, or in a dry run its text
  if [ -n "$DRY_RUN" ]; then quoted "$@"; else "$@"; fi
}
