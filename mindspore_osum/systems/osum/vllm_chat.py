"""A conversation as one text for vLLM, and its token ids: the same as `Template.sequence` makes of its spans.

vLLM turns messages into a text by a Jinja template and gives it to a tokenizer. Ours tokenizes span by span,
and what a user wrote as plain text, so the text marks both with characters of Unicode's private use area.
"""

import json
import re
from collections.abc import Iterator

from mindspore_osum.errors import UserError
from mindspore_osum.text.template import ANSWER, AUDIO, Template
from mindspore_osum.text.tokenizer import Tokenizer

PLACEHOLDER = "<|audio|>"  # a recording, outside of a user's words
SPAN, BOS, END = "\ue000", "\ue001", "\ue002"  # a span begins, without or with <s>; the end of an answer
PLAIN, PLAIN_END = "\ue003", "\ue004"  # around what a user wrote
_MARKS = (SPAN, BOS, END, PLAIN, PLAIN_END)
_PARTS = re.compile(f"({SPAN}|{BOS}|{END}|{PLAIN}[^{PLAIN_END}]*(?:{PLAIN_END}|$)|{re.escape(PLACEHOLDER)})")

_HEAD = """\
{%- set lefts = LEFTS -%}
{%- macro clean(text) -%}{{ text WITHOUT_MARKS }}{%- endmacro -%}
{%- macro words(text) -%}{{ clean(text) | replace(PLACEHOLDER, '') | trim }}{%- endmacro -%}
{%- macro form(text) -%}
{%- if PLACEHOLDER not in text -%}text2text{%- elif words(text) -%}text{%- else -%}s2t_chat{%- endif -%}
{%- endmacro -%}
{%- set seen = namespace(system=none, leading=none) -%}
{%- if messages[0].role == 'system' -%}
{%- set seen.system = clean(messages[0].content) -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set turns = messages -%}{%- endif -%}
{%- if not turns -%}{{ raise_exception('the conversation has no message of a user') }}{%- endif -%}
{%- for turn in turns -%}
{%- if turn.role != ('assistant' if loop.index0 % 2 else 'user') -%}
{{ raise_exception('messages must be of user and assistant in turn, after at most one of system') }}
{%- endif -%}
{%- if turn.role == 'user' and (loop.first or seen.leading == 'text2text') -%}
{%- set heard = form(turn.content) -%}
{%- if loop.first or heard != 'text2text' -%}{%- set seen.leading = heard -%}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- for turn in turns -%}
{%- if turn.role == 'assistant' -%}SPAN_PLAIN{{ clean(turn.content) }}PLAIN_END
{%- else -%}
{%- set kind = form(turn.content) -%}
"""
_TAIL = """\
{%- else -%}{{ raise_exception('this model takes no ' ~ kind ~ ' message') }}{%- endif -%}
{%- endif -%}
{%- endfor -%}"""


def chat_template(template: Template) -> str:
    """The Jinja template of conversations in `template`'s forms.

    A user's message with PLACEHOLDER is about a recording: with words the form `text`, without `s2t_chat`;
    one without is `text2text`. The words come before or after the recording as the form says.
    """
    lefts = {form: _around(template, form) for form in template.forms}
    head = _HEAD.replace("LEFTS", json.dumps(lefts, ensure_ascii=False))
    without = "".join(f" | replace('{mark}', '')" for mark in _MARKS)
    head = head.replace(" WITHOUT_MARKS", without).replace("PLACEHOLDER", f"'{PLACEHOLDER}'")
    head = head.replace("SPAN_PLAIN", SPAN + PLAIN).replace("PLAIN_END", PLAIN_END + END)
    cases = [
        f"{{%- {'elif' if n else 'if'} kind == '{form}' -%}}{_form(template, form)}\n"
        for n, form in enumerate(template.forms)
        if form in ("text", "s2t_chat", "text2text")
    ]
    return head + "".join(cases) + _TAIL


def _around(template: Template, form: str) -> list[str]:
    """The text `left` of a form: before, in and after its system text; nothing where there is none."""
    left = template.texts.get("left", "")
    words = left if isinstance(left, str) else left[form]
    begin, end = template.system.get("left", ("", ""))
    before, _, rest = words.partition(begin) if begin else ("", "", words)
    own, _, after = rest.partition(end) if end else (rest, "", "")
    return [before + begin, own, end + after]


def _form(template: Template, form: str) -> str:
    """A turn of a form up to its answer, in Jinja."""
    out, bos = "", template.bos_unanswered.get(form, template.bos)
    for names in template.forms[form]:
        if names[0] == ANSWER:
            break
        if len(names) > 1:
            raise UserError(f"form {form}: {' and '.join(names)} in one span have no form for vLLM's chat")
        name, mark = names[0], BOS if names[0] in bos else SPAN
        if name == AUDIO:
            out += PLACEHOLDER
        elif name == "left":
            out += (
                f"{mark}{{%- if loop.first -%}}{{{{ lefts[seen.leading][0] }}}}"
                f"{{%- if seen.system is none -%}}{{{{ lefts[seen.leading][1] }}}}"
                f"{{%- else -%}}{PLAIN}{{{{ seen.system }}}}{PLAIN_END}{{%- endif -%}}"
                f"{{{{ lefts[seen.leading][2] }}}}{{%- else -%}}{{{{ lefts[kind][2] }}}}{{%- endif -%}}"
            )
        elif name in template.texts:
            out += f"{mark}{{{{ {json.dumps(template.texts[name], ensure_ascii=False)} }}}}"
        else:
            out += f"{mark}{PLAIN}{{{{ words(turn.content) }}}}{PLAIN_END}"
    return out


def marked_ids(tokenizer: Tokenizer, text: str, audio_id: int) -> list[int]:
    """The token ids of a text with marks, in which each recording is one `audio_id`.

    A text without marks is one span, as `Tokenizer.encode` reads it.
    """
    ids, words, bos = [], "", False
    plain: list[range] = []

    def flush() -> list[int]:
        return tokenizer.encode(words, bos=bos, plain=plain) if words or bos else []

    for part in _pieces(text):
        if part in (SPAN, BOS, END, PLACEHOLDER):
            ids += flush() + {END: [tokenizer.eos_id], PLACEHOLDER: [audio_id]}.get(part, [])
            words, bos, plain = "", part == BOS, []
        elif part.startswith(PLAIN):
            users = part.removeprefix(PLAIN).removesuffix(PLAIN_END)
            plain = [*plain, range(len(words), len(words) + len(users))]
            words += users
        else:
            words += part
    return ids + flush()


def _pieces(text: str) -> Iterator[str]:
    """Marks, a user's words with their marks, and the texts between them."""
    return filter(None, _PARTS.split(text))
