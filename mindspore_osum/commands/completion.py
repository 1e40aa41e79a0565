"""`osum completion bash|zsh`: a script for the shell, generated from the table of verbs and their arguments.

Notable choices
- The script is static: completing starts no Python, so it is instant; make it again after an update.
- What an option takes is seen from its declaration: choices, else a file or a folder by its metavar.
"""

import argparse
import re
from typing import NamedTuple

from mindspore_osum.commands.verbs import VERBS, parser_of
from mindspore_osum.folder import BUNDLED
from mindspore_osum.subtitles import FORMATS
from mindspore_osum.tasks import TASKS

EXAMPLES = """\
examples:
  source <(osum completion bash)                 # this shell; put the line into ~/.bashrc for all
  osum completion zsh > ~/.zfunc/_osum           # in a folder of zsh's fpath
"""
# what cannot be seen from a declaration: option -> words
WORDS = {"--task": tuple(TASKS), "--tasks": tuple(TASKS), "--format": tuple(FORMATS)}
FOLDERS, FILES, VALUE = "folders", "files", "value"
_SAFE = re.compile(r"[\w./:@%+=,<>-]+")


class Option(NamedTuple):
    """One way to write an option."""

    flag: str
    help: str
    takes: str | tuple[str, ...] | None  # FOLDERS, FILES, any VALUE, words to choose from; None: nothing


def add_arguments(parser) -> None:
    """The arguments of `osum completion`."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(args) -> int:
    """Print the script; 0."""
    print({"bash": bash, "zsh": zsh}[args.shell](), end="")
    return 0


def options() -> dict[str, tuple[list[Option], list[str]]]:
    """Verb -> its options, and the words it takes as arguments (its own verbs, or choices)."""
    found = {}
    for name in VERBS:
        parser = parser_of(name)
        flags, words = [], []
        for action in parser._actions:
            if not action.option_strings:
                words += [str(choice) for choice in action.choices or ()]
            for flag in action.option_strings:
                if action.help != argparse.SUPPRESS:
                    flags.append(Option(flag, _plain(action.help or ""), _takes(flag, action)))
        found[name] = flags, words
    return found


def _takes(flag: str, action: argparse.Action):
    if action.nargs == 0:
        return None
    if action.choices:
        return tuple(map(str, action.choices))
    if flag in WORDS:
        return WORDS[flag]
    metavar = str(action.metavar)
    if "DIR" in metavar:
        return FOLDERS
    return FILES if re.search("FILE|PATH|yaml", metavar) else VALUE


def bash() -> str:
    """The script for bash."""
    verbs = options()
    lines = [
        "# completion of osum for bash: source <(osum completion bash)",
        "_osum() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" verb="${COMP_WORDS[1]}"',
        '    local before="${COMP_WORDS[COMP_CWORD-1]}"',
        "    local IFS=$'\\n'",  # names may have spaces
        "    COMPREPLY=()",
        "    if [[ $COMP_CWORD -eq 1 ]]; then",
        f"        COMPREPLY=({_words([*VERBS, '--help', '--version'])})",
        "        return",
        "    fi",
        '    case "$verb $before" in',
    ]
    for verb, (flags, _) in verbs.items():
        for option in flags:
            if option.takes:
                reply = _words(option.takes) if isinstance(option.takes, tuple) else _COMPGEN[option.takes]
                lines.append(f'        "{verb} {option.flag}") COMPREPLY=({reply}); return ;;')
    lines += ["    esac", '    case "$verb" in']
    for verb, (flags, words) in verbs.items():
        others = _words(words) if words else _COMPGEN[FILES]
        lines += [f"        {verb})", "            if [[ $word == -* ]]; then"]
        lines += [f"                COMPREPLY=({_words(option.flag for option in flags)})"]
        lines += ["            else", f"                COMPREPLY=({others})", "            fi ;;"]
    return "\n".join([*lines, "    esac", "}", "complete -o filenames -F _osum osum", ""])


_COMPGEN = {FOLDERS: '$(compgen -d -- "$word")', FILES: '$(compgen -f -- "$word")', VALUE: ""}


def _words(words) -> str:
    """Bash: those of the words that begin as what is typed."""
    lines = "\n".join(filter(_SAFE.fullmatch, words))
    return f'$(compgen -W "{lines}" -- "$word")'


def zsh() -> str:
    """The script for zsh."""
    lines = ["#compdef osum", "# completion of osum for zsh: osum completion zsh > ~/.zfunc/_osum"]
    lines += ["_osum() {", "    local -a verbs", "    verbs=("]
    lines += [f"        {_quoted(f'{name}:{_plain(verb.help)}')}" for name, verb in VERBS.items()]
    lines += ["    )", "    if (( CURRENT == 2 )); then", "        _describe 'verb' verbs", "        return"]
    lines += ["    fi", '    local verb="${words[2]}"', "    shift words", "    (( CURRENT-- ))"]
    lines += ['    case "$verb" in']
    for verb, (flags, words) in options().items():
        rest = f"({' '.join(words)})" if words else "_files"
        specs = [*map(_spec, flags), _quoted(f"*:argument:{rest}")]
        lines += [f"        {verb})", "            _arguments \\"]
        lines += [f"                {spec} \\" for spec in specs[:-1]]
        lines += [f"                {specs[-1]}", "            ;;"]
    lines += ["    esac", "}", 'if [[ "$funcstack[1]" == _osum ]]; then', '    _osum "$@"', "else"]
    return "\n".join([*lines, "    compdef _osum osum", "fi", ""])


def _spec(option: Option) -> str:
    spec = f"{option.flag}[{option.help}]"
    if isinstance(option.takes, tuple):
        spec += f":value:({' '.join(filter(_SAFE.fullmatch, option.takes))})"
    elif option.takes:
        spec += {FOLDERS: ":folder:_files -/", FILES: ":file:_files", VALUE: ":value: "}[option.takes]
    return _quoted(spec)


def _plain(help: str) -> str:
    """Help without what the shells' own syntax would read."""
    return re.sub(r"[\[\]`$\\\"]", " ", help.replace(str(BUNDLED), BUNDLED.name).replace("%%", "%")).strip()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
