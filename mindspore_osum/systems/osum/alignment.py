"""Frame-wise targets for the CTC head from known word times.

Notable choices
- An untrained encoder learns much faster from frame-wise targets than from CTC, which first has to find the
  alignment (Sak et al. 2015 start CTC models from frame-wise ones for the same reason). Both losses train one
  head with the same classes: silence is the blank, a word its tokens.
- If a token follows itself without a pause, the frame between them is blank, as in CTC.
"""

from collections.abc import Callable, Iterable

from mindspore_osum.text.sequence import IGNORE

BLANK = 0  # class of the CTC head; token i is class i + 1


def frame_classes(
    words: Iterable[tuple[str, float, float]],
    n_speech: int,
    seconds_per_token: float,
    ids_of: Callable[[str], list[int]],
) -> list[int]:
    """Class of the CTC head at each speech token.

    Parameters
    ----------
    words : (word, start, end) in seconds; empty if unknown.
    n_speech : speech tokens of the recording.
    seconds_per_token : duration of each.
    ids_of : token ids of a word; each gets an equal share of the word's time.

    Returns
    -------
    n_speech classes: the token at the middle of the speech token, or BLANK; all IGNORE without words.
    """
    words = list(words)
    classes = [BLANK if words else IGNORE] * n_speech
    for word, start, end in words:
        ids = ids_of(word)
        first, last = (round(seconds / seconds_per_token) for seconds in (start, end))
        places = range(max(first, 0), min(max(last, first + 1), n_speech))
        for place in places:
            share = (place - places.start) / len(places)
            classes[place] = ids[int(share * len(ids))] + 1 if ids else BLANK
        before = places.start - 1
        if places and before > 0 and classes[before] == classes[places.start] == classes[before - 1]:
            classes[before] = BLANK
    return classes
