"""One table from verb to module: a new verb is a line here and a file beside it."""

import importlib
from typing import NamedTuple

from mindspore_osum.commands.arguments import Parser


class Verb(NamedTuple):
    """The module of a verb, and the line that `osum --help` shows for it."""

    module: str
    help: str


VERBS = {
    "infer": Verb("mindspore_osum.commands.infer", "recordings in, tagged and parsed answers out"),
    "transcribe": Verb("mindspore_osum.commands.transcribe", "long recordings to text or subtitles"),
    "annotate": Verb("mindspore_osum.commands.annotate", "what recordings say, in all eight tasks"),
    "chat": Verb("mindspore_osum.commands.chat", "turns with a model, spoken or typed"),
    "train": Verb("mindspore_osum.commands.train", "train or fine-tune a model as a YAML job describes"),
    "plan": Verb("mindspore_osum.commands.plan", "memory and time of a training job, before it is run"),
    "bench": Verb("mindspore_osum.commands.bench", "speed against PyTorch and its promises, on this machine"),
    "eval": Verb("mindspore_osum.commands.eval", "measure a model as the papers do, and compare"),
    "analyze": Verb(
        "mindspore_osum.commands.analyze", "what of a linear aligner's speech embeddings a decoder needs"
    ),
    "convert": Verb(
        "mindspore_osum.commands.convert", "PyTorch checkpoints to MindSpore model folders, and back"
    ),
    "download": Verb("mindspore_osum.commands.download", "a model from huggingface.co or modelscope.cn"),
    "merge-lora": Verb("mindspore_osum.commands.merge_lora", "add a model's LoRA to its weights"),
    "swap-llm": Verb("mindspore_osum.commands.swap_llm", "another decoder in the place of a model's own"),
    "merge-checkpoint": Verb(
        "mindspore_osum.commands.merge_checkpoint", "a training checkpoint as a model folder"
    ),
    "fit-aligner": Verb(
        "mindspore_osum.commands.fit_aligner", "a linear aligner's start in closed form, by ridge regression"
    ),
    "data": Verb("mindspore_osum.commands.data", "training data: import, check, measure, pack"),
    "export": Verb("mindspore_osum.commands.export", "a model as MindIR graphs for deployment"),
    "serve": Verb("mindspore_osum.commands.serve", "the model behind HTTP, in OpenAI's forms"),
    "demo": Verb("mindspore_osum.commands.demo", "a web page to record, ask and look at the answer"),
    "info": Verb("mindspore_osum.commands.info", "what a model folder is: sizes, types, preset, hashes"),
    "doctor": Verb("mindspore_osum.commands.doctor", "versions, devices, and a self-test of this machine"),
    "completion": Verb(
        "mindspore_osum.commands.completion", "a script that completes osum's words in bash or zsh"
    ),
}
# verbs that handle SIGINT and SIGTERM themselves, or leave them to the processes they start
OWN_SIGNALS = frozenset({"train", "serve", "demo", "bench"})


def parser_of(word: str) -> Parser:
    """The parser of a verb's arguments; its module is imported."""
    verb = VERBS[word]
    module = importlib.import_module(verb.module)
    parser = Parser(prog=f"osum {word}", description=verb.help, epilog=getattr(module, "EXAMPLES", None))
    module.add_arguments(parser)
    parser.set_defaults(whole_parser=whole_parser)  # which `osum completion` needs
    return parser


def whole_parser() -> Parser:
    """A parser of the whole command: all verbs and sub-verbs, which are imported, with their arguments."""
    parser = Parser(prog="osum")
    parser.add_argument("--version", action="store_true", help="the version")
    verbs = parser.add_subparsers()
    for word, verb in VERBS.items():
        declared = verbs.add_parser(word, help=verb.help)
        importlib.import_module(verb.module).add_arguments(declared)
        for sub in declared.sub_parsers():
            sub.declare()
    return parser
