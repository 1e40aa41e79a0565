"""`osum completion bash|zsh`: a shell script that shtab makes from the arguments of all verbs.

Notable choices
- The script is static: completion starts no Python, so it is instant; it must be made again after an update.
- The values of an option follow from its declaration: choices, else a file or a folder by its metavar.
"""

import argparse
import re

from mindspore_osum.folder import BUNDLED
from mindspore_osum.subtitles import FORMATS
from mindspore_osum.tasks import TASKS

EXAMPLES = """\
examples:
  source <(osum completion bash)                 # this shell; put the line into ~/.bashrc for all
  osum completion zsh > ~/.zfunc/_osum           # in a folder of zsh's fpath
"""
# values that do not follow from a declaration: option -> words
WORDS = {"--task": tuple(TASKS), "--tasks": tuple(TASKS), "--format": tuple(FORMATS)}
_SHELLS_OWN = re.compile(r"[`$\\\"]")  # which a script would read in the text of a help


def add_arguments(parser) -> None:
    """The arguments of `osum completion`."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(args) -> int:
    """Print the script; 0."""
    print(script(args.shell, args.whole_parser()))
    return 0


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script that completes a parser's words; the parser cannot be used for anything else afterwards.

    Parameters
    ----------
    shell : "bash" or "zsh".
    parser : of the whole command, with a sub-parser for each verb.
    """
    import shtab

    _describe(parser, shtab)
    return shtab.complete(parser, shell)


def _describe(parser: argparse.ArgumentParser, shtab) -> None:
    """Mark every argument with what completes it, as shtab expects."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _describe(sub, shtab)
            continue
        if action.help not in (None, argparse.SUPPRESS):
            shown = action.help.replace(str(BUNDLED), BUNDLED.name)
            action.help = _SHELLS_OWN.sub(" ", shown)
        for flag in action.option_strings:
            action.choices = action.choices or WORDS.get(flag)
        if not action.choices and action.nargs != 0:
            metavar = str(action.metavar)
            if "DIR" in metavar:
                action.complete = shtab.DIRECTORY
            elif not action.option_strings or re.search("FILE|PATH|PNG|yaml", metavar):
                action.complete = shtab.FILE
