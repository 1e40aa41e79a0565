"""The generated parts of the documentation site: mkdocs calls the two functions `on_*` (mkdocs.yml, `hooks`).

    mkdocs build --strict        # the site, in output/site
    mkdocs serve                 # the same on a local port, rebuilt when a file changes

A pair of marks in a page shows where a part belongs. The text between them is for readers of the page in the
repository; on the site the part replaces it, so no copy is kept that could go out of date:

    <!-- generated: labels -->
    ...
    <!-- end -->

Notable choices
- Meanings of settings are the comments in the source of their dataclasses; types and defaults are those of
  the running code.
- Pages that mkdocs.yml does not name are put at the end of the navigation instead of being lost.
"""

import ast
import dataclasses
import importlib
import inspect
import io
import os
import re
import sys
import textwrap
import tokenize
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # also without an installed package

from mindspore_osum.commands.verbs import VERBS, parser_of  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402

# heading -> where the settings are given, and their dataclass
SETTINGS = {
    "A job (the YAML of `osum train`)": "mindspore_osum.training.config:TrainConfig",
    "A job of an OSUM model, beside that": "mindspore_osum.systems.osum.job:Sections",
    "A model (`config.json`; `model.overrides` in a job)": "mindspore_osum.systems.osum.config:ModelConfig",
    "Generation (`osum infer`, `sampling=` in Python)": "mindspore_osum.inference.sampling:Sampling",
}
# what the Python page shows, by module
API = {
    "mindspore_osum.api": ("OSUM",),
    "mindspore_osum.results": ("Response", "Answer", "Word"),
    "mindspore_osum.inference.passes": ("plan",),
    "mindspore_osum.inference.request": ("make_request",),
    "mindspore_osum.tasks": ("parse_answer", "format_answer", "task_key"),
    "mindspore_osum.folder": ("read_config",),
    "mindspore_osum.hub": ("model_folder", "download"),
    "mindspore_osum.config": ("from_dict",),
    "mindspore_osum.systems.osum.config": ("ModelConfig",),
    "mindspore_osum.errors": ("UserError",),
}
QUALIFIED = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")  # module prefixes of a name
MARK = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end -->\n?", re.DOTALL)
OUTSIDE = re.compile(r"\[([^\[\]]+)\]\((\.\./[^()#\s]+)\)")  # a link from docs/ to another folder
OTHER_PAGES = "More"  # where pages go that mkdocs.yml does not name


def on_config(config):
    """Put pages that the navigation lacks at its end."""
    named = set(_pages(config["nav"]))
    left = sorted(p.name for p in Path(config["docs_dir"]).glob("*.md") if p.name not in named)
    if left:
        config["nav"].append({OTHER_PAGES: left})
    return config


def on_page_markdown(markdown, **_):
    """Fill the marks of a page; of links to files that are not on the site, keep the text only."""

    def link(match):
        return match[1] if (ROOT / "docs" / match[2]).is_file() else match[0]

    return OUTSIDE.sub(link, filled(markdown))


def filled(markdown: str) -> str:
    """A page with its generated parts.

    Raises
    ------
    UserError
        A mark names an unknown part.
    """

    def part(match):
        if match[1] not in PARTS:
            raise UserError(f"documentation: <!-- generated: {match[1]} -->: known are {', '.join(PARTS)}")
        return "\n".join(PARTS[match[1]]()).strip() + "\n"

    return MARK.sub(part, markdown)


def _pages(nav) -> list[str]:
    """All pages of a navigation, whatever its nesting."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]


def table(head, rows) -> list[str]:
    """Lines of a Markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines), ""]


def code(value) -> str:
    """A value as code."""
    return f"`{value}`"


def prose(text: str) -> str:
    """A comment as text of a page: nothing in it is markup."""
    return re.sub(r"[*_\[]", r"\\\g<0>", text).replace("<", "&lt;")


# settings


def config() -> list[str]:
    """All dataclasses of SETTINGS, each followed by those it holds."""
    lines = []
    for heading, place in SETTINGS.items():
        module, _, name = place.partition(":")
        lines += [f"## {heading}", ""]
        for path, cls in nested("", getattr(importlib.import_module(module), name)):
            lines += [f"### `{path}`", ""] if path else []
            lines += [prose(inspect.getdoc(cls).partition("\n\n")[0].replace("\n", " ")), ""]
            lines += table(("key", "type", "default", "meaning"), rows_of(cls))
    return lines


def nested(path: str, cls) -> list[tuple[str, type]]:
    """(key path, dataclass) of a dataclass and of all that its fields hold; items of a list are `key[]`."""
    found = [(path, cls)]
    for name, hint in typing.get_type_hints(cls).items():
        items = [arg for arg in typing.get_args(hint) if dataclasses.is_dataclass(arg)]
        inner, mark = (hint, "") if dataclasses.is_dataclass(hint) else (items[0] if items else None, "[]")
        if inner and all(inner is not known for _, known in found):
            found += nested(f"{path}.{name}{mark}".lstrip("."), inner)
    return found


def rows_of(cls) -> list[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of each field that can be set."""
    meanings = comments(cls)
    return [
        (code(f.name), _type(f), _default(f), prose(meanings[f.name]))
        for f in dataclasses.fields(cls)
        if f.init
    ]


def comments(cls) -> dict[str, str]:
    """Field -> its comments in the source: on its own lines, and on lines directly before it."""
    source = textwrap.dedent(inspect.getsource(cls))
    said, alone = {}, set()  # line -> comment; lines with nothing else
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            said[token.start[0]] = token.string.lstrip("# ")
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    found = {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            found[node.target.id] = " ".join(said[n] for n in range(first, node.end_lineno + 1) if n in said)
    return found


def _type(field) -> str:
    hint = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
    if typing.get_origin(field.type):
        hint = str(field.type)
    if dataclasses.is_dataclass(field.type):
        return "see below"
    return QUALIFIED.sub("", hint)


def _default(field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return "" if dataclasses.is_dataclass(value) else code(value)
    if field.default is dataclasses.MISSING:
        return "required"
    return code(f'"{field.default}"' if isinstance(field.default, str) else field.default)


# tasks, labels, prompts


def tasks() -> list[str]:
    """The eight tasks, and the published keys that combine them."""
    from mindspore_osum.tasks import TASK_KEYS, TASKS, tags_of, write_tags

    rows = [(code(t.abbr), t.name, code(t.key), code(t.tag_string)) for t in TASKS.values()]
    lines = table(("task", "what it is", "key", "tags"), rows)
    others = [key for key in TASK_KEYS if key not in {t.key for t in TASKS.values()}]
    return [
        *lines,
        "The other published keys:",
        *table(("key", "tags"), [(code(key), code(write_tags(tags_of(key)))) for key in others]),
    ]


def labels() -> list[str]:
    """The label sets with all their spellings."""
    from mindspore_osum.tasks import LABEL_SETS

    rows = []
    for labels in LABEL_SETS.values():
        for value in labels.values:
            others = ", ".join(code(a) for a, v in labels.aliases.items() if v == value and a != value)
            rows.append((code(labels.field), code(f"<{labels.tag}>"), code(f"<{value}>"), others))
    return table(("field", "announced by", "written", "also read"), rows)


def prompts() -> list[str]:
    """The prompt sets, and the published requests of each task."""
    from mindspore_osum.systems.osum.template import load_template, prompt_sets
    from mindspore_osum.text.requests import intent_instructions, task_requests

    lines = []
    for name in prompt_sets():
        template = load_template(name)
        texts = {"assistant": "", "left": {}} | template.texts
        lines += [f"### `{name}`", "", f"Between request and answer: {code(repr(texts['assistant']))}", ""]
        for key, wordings in template.requests.items():
            lines += [f"Requests, {code(key)}:", "", *(f"- {text}" for text in wordings), ""]
        for kind, left in texts["left"].items():
            shown = f"\n\n```text\n{left.strip()}\n```" if left.strip() else "nothing"
            lines += [f"Before the request, `{kind}`: {shown}", ""]
    lines += ["## Published requests", ""]
    from mindspore_osum.tasks import TASKS

    lines += table(("task", "request"), [(code(t), request) for t in TASKS for request in task_requests(t)])
    return [
        *lines,
        "Put before a user's words to ask for their tags:",
        "",
        *(f"- {text}" for text in intent_instructions()),
    ]


# commands, figures


def commands() -> list[str]:
    """The help of every verb."""
    from mindspore_osum.folder import BUNDLED

    os.environ["COLUMNS"] = "100"  # argparse breaks lines at the terminal's width
    lines = []
    for verb in VERBS:
        parser = parser_of(verb)
        helps = {f"osum {verb}": parser.format_help()}
        for sub in parser.sub_parsers():
            sub.declare()
            helps[sub.prog] = sub.format_help()
        for name, text in helps.items():
            text = text.replace(str(BUNDLED), BUNDLED.name).rstrip()
            lines += [f"{'##' if name.count(' ') == 1 else '###'} {name}", "", "```text", text, "```", ""]
    return lines


def figures() -> list[str]:
    """The README's tables about the bundled model."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [block for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE) if "bundled" in block]
    if not found:
        raise UserError("documentation: README.md has no table about the bundled model any more")
    return [line for block in found for line in ("", *block.splitlines())]


def bundled() -> list[str]:
    """What the bundled model is, as `osum info` says."""
    from mindspore_osum.commands.info import describe, text_of
    from mindspore_osum.folder import BUNDLED

    facts = describe(BUNDLED) | {"folder": BUNDLED.name}
    return ["```text", text_of(facts), "```"]


def job() -> list[str]:
    """The tutorial's job."""
    return ["```yaml", (ROOT / "examples/fine_tune/job.yaml").read_text(encoding="utf-8").rstrip(), "```"]


def api() -> list[str]:
    """Signatures and docstrings of the names in API; fields of dataclasses as a table."""
    lines = []
    for module, names in API.items():
        lines += [f"## {module}", ""]
        for name in names:
            found = getattr(importlib.import_module(module), name)
            lines += [f"### `{name}`", "", *_described(name, found)]
            if inspect.isclass(found) and not dataclasses.is_dataclass(found):
                for method in vars(found):
                    if callable(getattr(found, method)) and (method == "__call__" or method[0] != "_"):
                        lines += [f"#### `{name}.{method}`", "", *_described(method, getattr(found, method))]
            elif dataclasses.is_dataclass(found) and any(comments(found).values()):
                lines += table(("field", "type", "default", "meaning"), rows_of(found))
    return lines


def _described(name: str, found) -> list[str]:
    """Signature and docstring as they are written."""
    fields = dataclasses.is_dataclass(found)  # shown as a table
    named = inspect.isclass(found) and issubclass(found, Exception)
    shown = [] if fields or named else [QUALIFIED.sub("", f"{name}{inspect.signature(found)}")]
    return ["```text", *shown, *textwrap.indent(inspect.getdoc(found), "    ").splitlines(), "```", ""]


PARTS = {f.__name__: f for f in (config, tasks, labels, prompts, commands, figures, bundled, job, api)}
