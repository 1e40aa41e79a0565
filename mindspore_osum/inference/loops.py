"""Answers that repeat themselves without end: finding the loop, and what is kept of it.

Notable choices
- A loop is a unit of 1 to 20 tokens that the end of an answer repeats at least 8 times and over at least 48
  tokens: a single token 48 times, three tokens 16 times, six or more 8 times. People do repeat themselves:
  laughter ("ha ha ha ha"), telephone numbers of one digit (11 digits; 33 tokens where a character takes three
  byte tokens), refrains. A recording of 30 seconds has some 150 words, so what is above these limits is
  hardly ever said.
- It depends on an answer's own tokens only, so a batch equals its answers one by one.
"""

from collections.abc import Sequence

LONGEST_UNIT, FEWEST, TOKENS = 20, 8, 48


def loop_at_end(tokens: Sequence[int]) -> int:
    """Length of the shortest unit that the end of an answer repeats too often; 0 if there is none."""
    for unit in range(1, LONGEST_UNIT + 1):
        needed = max(FEWEST, -(-TOKENS // unit)) * unit
        if len(tokens) < needed:
            continue
        if tokens[-1] == tokens[-1 - unit] and tokens[-needed:-unit] == tokens[unit - needed :]:
            return unit
    return 0


def without_loop(tokens: list[int], unit: int) -> tuple[list[int], int]:
    """The tokens with one repetition of the unit at their end, and how many there were."""
    end = len(tokens)
    while end >= 2 * unit and tokens[end - unit : end] == tokens[end - 2 * unit : end - unit]:
        end -= unit
    return tokens[:end], 1 + (len(tokens) - end) // unit
