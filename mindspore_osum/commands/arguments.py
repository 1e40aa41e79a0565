"""The parser of every verb: argparse's, whose complaints name the nearest option or choice."""

import argparse
import re
from difflib import get_close_matches

_UNKNOWN = re.compile(r"unrecognized arguments: .*?(--[\w-]+)")
_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """With examples below the options, as they are written."""

    def __init__(self, **how):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **how)

    def error(self, message: str):
        """Print what is wrong, with a suggestion, and leave with 2."""
        super().error(message + self._suggestion(message))

    def _suggestion(self, message: str) -> str:
        if found := _UNKNOWN.search(message):
            near = get_close_matches(found[1], self._options(), n=1)
        elif found := _CHOICE.search(message):
            near = get_close_matches(found[1], re.findall(r"'(.*?)'", found[2]), n=1)
        else:
            near = []
        return f"; did you mean {near[0]!r}?" if near else ""

    def _options(self) -> list[str]:
        """Long options, those of a chosen sub-verb included."""
        subs = [a.choices.values() for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        parsers = [self, *(parser for group in subs for parser in group)]
        return [flag for parser in parsers for flag in parser._option_string_actions if flag.startswith("--")]
