"""The training data of a TouchASU: utterances and whole conversations as messages."""

from collections.abc import Iterator

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.systems.speech_extractor import SpeechExtractor
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig
from mindspore_osum.systems.touch_asu.requests import turns_of
from mindspore_osum.systems.touch_asu.template import LOSSES, MessageTemplate
from mindspore_osum.text.sequence import HybridSequence
from mindspore_osum.text.tokenizer import Tokenizer


class TouchAsuExtractor(SpeechExtractor):
    """Computes the columns of utterances.

    Parameters
    ----------
    model : its description.
    """

    conversations = True

    def __init__(self, model: TouchAsuConfig, template: MessageTemplate, tokenizer: Tokenizer):
        super().__init__(model)
        self.template, self.tokenizer = template, tokenizer
        self.reads = {"loss.prompt": bool(template.text_loss)}
        self.shortest = model.features.seconds(model.min_speech_frames)

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """Problems of an utterance whose recording lasts `seconds`."""
        try:
            turns_of(utt, None, "")
        except UserError as error:
            yield str(error)
        if utt.wav is not None and seconds < self.shortest:
            yield f"{utt.where}: shorter than the {self.shortest:g} s of the model's min_speech_frames"

    def sequence(self, utt: Utterance, n_speech: int | None) -> HybridSequence:
        turns, system = turns_of(utt, n_speech, LOSSES[1])
        return self.template.sequence(self.tokenizer, *turns, system=system)
