"""Writes the key tables into docs/CONVERSION.md: ``python -m ckpt_convert.key_docs docs/CONVERSION.md``."""

import sys
from pathlib import Path

from ckpt_convert.key_tables import ADAPTER, DECODER, ENCODER, FORMS
from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text

BEGIN, END = "<!-- key tables: begin -->", "<!-- key tables: end -->"


def tables() -> str:
    """The tables as Markdown."""
    out = ["### Encoder", "", "Every module is under `encoder.` in each form.", ""]
    out += _table(
        ("ours and published", "Hugging Face Whisper", "openai-whisper", "parameters"),
        [(f"`{a}`", f"`{b}`", f"`{c}`", ", ".join(p)) for a, b, c, p in ENCODER],
    )
    out += ["### Adapter and speech tokens", ""]
    out += _table(
        ("ours", "published", "parameters"), [(f"`{a}`", f"`{b}`", ", ".join(p)) for a, b, p in ADAPTER]
    )
    out += ["### Decoder", ""]
    out += _table(
        ("ours", "published", "Hugging Face", "parameters"),
        [(f"`decoder.{m}`", f"`llama_model.{m}`", f"`{m}`", ", ".join(p)) for m, p in DECODER],
    )
    out += ["### What has no tensor of ours", ""]
    rows = [(form.title, f"`{o.pattern}`", o.kind, o.why) for form in FORMS.values() for o in form.others]
    out += _table(("form", "key", "kind", "why"), rows)
    return "\n".join(out).rstrip() + "\n"


def _table(head, rows) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]


def with_tables(text: str) -> str:
    """`text` with what lies between the markers replaced by `tables`; UserError if there are no markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the document has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def main(argv: list[str]) -> int:
    """Rewrite the document named on the command line."""
    path = Path(argv[0])
    write_text(path, with_tables(path.read_text("utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
