"""Writes the key tables into docs/CONVERSION.md: ``python -m ckpt_convert.key_docs docs/CONVERSION.md``."""

import sys
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.models.forms import Form
from mindspore_osum.models.table import Param, Table
from mindspore_osum.systems.base import System
from mindspore_osum.systems.registry import DEFAULT, system_of

BEGIN, END = "<!-- key tables: begin -->", "<!-- key tables: end -->"


def tables(system: System) -> str:
    """The tables of a system as Markdown."""
    forms = system.forms()
    out: list[str] = []
    for table in system.tables():
        out += [f"### {(table.part or 'the model itself').capitalize()}", ""]
        out += _names(table, [form for form in forms.values() if table.part in form.prefixes])
    out += ["### What has no tensor of ours", ""]
    rows = [(form.title, f"`{o.pattern}`", o.kind, o.why) for form in forms.values() for o in form.others]
    out += _table(("form", "key", "kind", "why"), rows)
    return "\n".join(out).rstrip() + "\n"


def _names(table: Table, forms: list[Form]) -> list[str]:
    """Table of the modules with names in other forms, one column per form; LoRA has the decoder's names."""
    forms = [form for form in forms if form.lora != "alone" and not form.own_names]
    rows = []
    for row in table.rows:
        theirs = [
            f"`{form.prefixes[table.part]}{row.names[form.name]}`" for form in forms if form.name in row.names
        ]
        if theirs:
            sizes = " x ".join(map(str, row.params[0].sizes))
            rows.append((f"`{table.prefix}{row.ours}`", *theirs, ", ".join(map(_param, row.params)), sizes))
    return _table(("ours", *(form.title for form in forms), "parameters", "size of the first"), rows)


def _param(param: Param) -> str:
    by_setting = param.when and not param.name.startswith("lora_")
    return f"{param.name} (if {param.when})" if by_setting else param.name


def _table(head, rows) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]


def with_tables(text: str) -> str:
    """`text` with the part between the markers replaced by `tables`; UserError if there are no markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the document has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{tables(system_of(DEFAULT))}\n{END}{after}"


def main(argv: list[str]) -> int:
    """Rewrite the document given on the command line."""
    path = Path(argv[0])
    write_text(path, with_tables(path.read_text("utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
