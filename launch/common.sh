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
