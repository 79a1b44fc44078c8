"""drm completion: a script by which a shell completes commands, options and paths."""

import dataclasses
from typing import Literal

import tyro

from drm_jax.commands.options import option_names, parse

_DESCRIPTION = """\
Print a script by which bash or zsh completes commands, options, experiment files and work
directories. All words stand in the script, so that completing is quick: print it anew after an
update.

Examples:
  drm completion bash > ~/.local/share/bash-completion/completions/drm
  drm completion zsh > ~/.drm_completion     and in ~/.zshrc: source ~/.drm_completion
"""
_ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"
_SCRIPT = """\
_drm() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="${{COMP_WORDS[1]}}" words="" IFS=$' \\t\\n'
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  else
    case "$before" in
{values}
    esac
    case "$word" in
      -*) case "$command" in
{options}
      esac ;;
    esac
  fi
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    return
  fi
  IFS=$'\\n'
  case "$command $COMP_CWORD" in
    "train 2" | "plan 2") COMPREPLY=($(compgen -d -- "$word"; compgen -f -X '!*.py' -- "$word")) ;;
    "eval 2" | "show 2" | "play 2") COMPREPLY=($(compgen -d -- "$word")) ;;
    report* | runs* | checkpoints*) COMPREPLY=($(compgen -d -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _drm drm
"""


@dataclasses.dataclass(frozen=True)
class CompletionOptions:
    shell: tyro.conf.Positional[Literal["bash", "zsh"]]
    """Which shell the script is for."""


def run(argv: list[str]) -> int:
    options = parse(CompletionOptions, argv, "drm completion", _DESCRIPTION)
    if options is None:
        return 0
    print((_ZSH if options.shell == "zsh" else "") + _script(), end="")
    return 0


def _script() -> str:
    from drm_jax.commands.main import COMMANDS
    from drm_jax.config import PARTS

    values = [f'      --{part}) words="{" ".join(names)}" ;;' for part, names in PARTS.items()]
    values.append('      completion) words="bash zsh" ;;')
    options = [f'        {name}) words="{" ".join(_options(name))}" ;;' for name in COMMANDS]
    return _SCRIPT.format(
        commands=" ".join(COMMANDS), values="\n".join(values), options="\n".join(options)
    )


def _options(command: str) -> list[str]:
    """All options that a command may have, whichever parts an experiment is made of."""
    from drm_jax.commands import (
        checkpoints,
        data,
        evaluate,
        exporting,
        importing,
        plan,
        play,
        report,
        runs,
        show,
        solve,
        train,
    )
    from drm_jax.config import PARTS, make_part
    from drm_jax.methods.denoising import Denoising

    classes = {
        "train": train.TrainOptions, "plan": plan.PlanOptions, "eval": evaluate.EvalOptions,
        "data": data.DataOptions, "import": importing.ImportOptions, "runs": runs.RunsOptions,
        "report": report.ReportOptions, "show": show.ShowOptions,
        "checkpoints": checkpoints.CheckpointsOptions, "completion": CompletionOptions,
        "solve": solve.SolveOptions, "play": play.PlayOptions,
        "export": exporting.ExportOptions,
    }  # fmt: skip
    found = list(option_names(classes[command]))
    if command in ("train", "plan"):
        for part, names in PARTS.items():
            for name in names:
                found += option_names(type(make_part(part, name)), f"{part}.")
    if command == "eval":
        found += option_names(Denoising)
    return [*dict.fromkeys(found), "--help", "--help-all"]
