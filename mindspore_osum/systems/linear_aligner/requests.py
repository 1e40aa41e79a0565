"""What a linear aligner can be asked, in training and in use, and the prompt that it becomes."""

from mindspore_osum.errors import UserError
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.linear_aligner.template import TASKS, load_layout
from mindspore_osum.systems.prompt import Prompts
from mindspore_osum.tasks import CHAT, TEXT2TEXT, tags_of, write_tags

TRANSCRIBE = "<TRANSCRIBE>"
# task of a manifest's line -> task here
OF_LINES = {TRANSCRIBE: "asr", "<TRANSLATE>": "st", CHAT: "qa", TEXT2TEXT: "text", "sttc": "qa"}
OF_LINES |= {task: task for task in TASKS}
KNOWN = (TRANSCRIBE, CHAT, TEXT2TEXT, None)  # tasks of a request; None: in words


def check(request) -> None:
    """Refuse a `Request` that no recording could be asked; UserError in one line."""
    if request.asks_for not in KNOWN or request.output_type == "intent_classification":
        raise UserError(
            f"{request.asks_for or request.output_type}: a linear aligner has the tasks asr, sttc (an answer "
            "to a spoken question) and, with translate, speech translation; ask for one of them, or in words"
        )
    if request.translate and request.asks_for != TRANSCRIBE:
        raise UserError("translate: it goes with the task asr; ask for that, or in words")


class AlignerPrompts(Prompts):
    """Makes the prompts of one model."""

    def __init__(self, system, cfg: LinearAlignerConfig, tokenizer):
        super().__init__(system, cfg, tokenizer)
        self.layout = load_layout(cfg.prompts)

    def given(self, form: str, words: str | None, task: str | None, request) -> dict[str, str | None]:
        """As `Prompts.given`."""
        if form == "text2text":
            return self.layout.words("text", words)
        own = None if task and words == write_tags(tags_of(task)) else words
        if task == TRANSCRIBE:
            return self.layout.words("st" if request.translate else "asr", own)
        return self.layout.words("qa", own)  # also of other requests in words: none were published
