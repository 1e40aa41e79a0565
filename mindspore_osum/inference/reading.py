"""Generated tokens as an answer: parsed, without its loop, with the labels that its task asks for, and with
warnings about what is doubtful.

Notable choices
- `raw` is what the model wrote, its opening tags included, and loops and stray marks too; `text`, `labels`
  and `words` are what people read.
- A label that the task asks for and the model has not written, or not from its set, is decided: the likeliest
  value of the set after the transcript. `raw` does not have it, and a warning says so.
"""

from mindspore_osum.inference.confidence import add_confidence
from mindspore_osum.inference.loops import without_loop
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import RETRY_PENALTY
from mindspore_osum.inference.tokens import Generated
from mindspore_osum.results import Answer
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.registry import system_of
from mindspore_osum.tasks import unknown_tags
from mindspore_osum.text.tokenizer import Tokenizer


class Reader:
    """Reads the answers of one model.

    Parameters
    ----------
    labels : gives probabilities of labels (`System.label_scorer`), or None.
    """

    def __init__(self, cfg: Config, tokenizer: Tokenizer, labels=None):
        self.cfg, self.tokenizer, self.labels = cfg, tokenizer, labels
        self.system = system_of(cfg.model_type)

    def read(self, prompt: Prompt, request: Request, written: Generated, probabilities: bool) -> Answer:
        """The answer that was generated.

        Parameters
        ----------
        probabilities : also of each label among those of its set.

        Raises
        ------
        UserError : tokens that the tokenizer does not have.
        """
        tokens, times = written.tokens, 0
        if written.unit:
            tokens, times = without_loop(written.tokens, written.unit)
        answer = self.system.answer(self._text(prompt, tokens), request.task)
        answer.raw, answer.cut = self._text(prompt, written.tokens), written.cut
        self.system.describe(answer, written.facts, written.mean_log_p)
        answer.temperature = written.temperature
        if written.log_p:
            add_confidence(answer, self.tokenizer, prompt.opening, tokens, written.log_p)
        if written.retried:
            answer.warnings.append(f"a loop: generated once more, with repetition penalty {RETRY_PENALTY:g}")
        if times:
            unit = self.tokenizer.decode(written.tokens[-written.unit :]).strip()
            answer.warnings.append(f"a loop: {unit!r} was repeated {times} times, and the answer ended there")
        if (task := request.asks_for) and (line := self.system.other_task(task, answer, self.cfg)):
            answer.warnings.append(line)
        if not request.task and (line := unknown_tags(request.words or "")):
            answer.warnings.append(line)
        if probabilities:
            answer.probabilities = self.labels.probabilities(prompt, answer.raw, answer.labels)
        if request.task and request.force_tags:
            if not self.system.other_task(request.task, answer, self.cfg):
                self._leave_out_labels(request.task, answer)
            self._decide_labels(prompt, request.task, answer)
        return answer

    def _text(self, prompt: Prompt, tokens: list[int]) -> str:
        return self.tokenizer.decode([*prompt.opening, *tokens])

    def _leave_out_labels(self, task: str, answer: Answer) -> None:
        """Labels that the task does not ask for."""
        for name in [name for name in answer.labels if name not in self.system.labels_of(task)]:
            answer.marks.append(f"<{answer.labels.pop(name)}>")
            answer.warnings.append(f"left out, as it was not asked for: {name} {answer.marks[-1]}")

    def _decide_labels(self, prompt: Prompt, task: str, answer: Answer) -> None:
        lacking = [name for name in self.system.labels_of(task) if name not in answer.labels]
        if lacking and self.labels is None:
            answer.warnings.append(f"no {', '.join(lacking)} was written; an export cannot decide it")
        elif lacking:
            found = self.labels.decide(prompt, task, answer.text, answer.labels)
            for name, p in found.items():
                answer.labels[name] = value = max(p, key=p.get)
                answer.warnings.append(f"no {name} was written; {value} is the likeliest ({p[value]:.0%})")
            if answer.probabilities is not None:
                answer.probabilities |= found
