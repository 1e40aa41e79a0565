"""A linear aligner as an exported model: as `SpeechExport`, with the words of its tasks in the prompt."""

from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.linear_aligner.template import load_layout
from mindspore_osum.systems.speech_export import SpeechExport
from mindspore_osum.text.template import Turn


class AlignerExport(SpeechExport):
    """The exports of the linear aligner."""

    def around(self, cfg: LinearAlignerConfig, tokenizer, template, request_tokens: int) -> int:
        layout = load_layout(cfg.prompts)

        def positions(task: str, request: str) -> int:
            words = layout.words(task, None) | {"request": request}
            return len(template.sequence(tokenizer, Turn("text", words, speech=1))) - 1

        own = max(positions(task, words) for task, words in layout.requests.items())
        return max(own, max(positions(task, "") for task in layout.requests) + request_tokens)
