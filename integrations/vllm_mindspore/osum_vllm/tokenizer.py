"""Our tokenizer behind transformers' interface, as vLLM calls it.

Notable choices
- `tokenize` reads the marks of systems/osum/vllm_chat.py and nothing else: transformers' own splitting at
  special tokens would give a user's words a meaning.
- A recording is the piece `<|audio|>`, whose id is just beyond the model's vocabulary, so that neither a text
  nor an answer can have it.
- Pieces are SentencePiece's, which are different for every id.
"""

import json
from pathlib import Path

from transformers import PreTrainedTokenizer

from mindspore_osum.systems.osum.vllm import MODEL_TYPE
from mindspore_osum.systems.osum.vllm_chat import PLACEHOLDER, marked_ids
from mindspore_osum.text.sentence_piece import SentencePieceTokenizer

VOCABULARY = {"vocab_file": "tokenizer.model", "config_file": "config.json"}


class OsumTokenizer(PreTrainedTokenizer):
    """Text with marks <-> ids.

    Parameters
    ----------
    vocab_file, config_file : tokenizer.model and config.json of the exported folder.
    """

    vocab_files_names = VOCABULARY
    model_input_names = ("input_ids", "attention_mask")

    def __init__(self, vocab_file: str, config_file: str, **more):
        values = json.loads(Path(config_file).read_text("utf-8"))
        if values.get("model_type") != MODEL_TYPE:
            raise ValueError(f"{config_file}: not written by `osum export --format vllm`")
        self.ours = SentencePieceTokenizer(vocab_file)
        self.audio_id = values["audio_token_id"]
        self.vocab_file, self.config_file = vocab_file, config_file
        self._pieces = self.ours.pieces()
        self._ids = {piece: i for i, piece in enumerate(self._pieces)} | {PLACEHOLDER: self.audio_id}
        for name, i in (("bos", self.ours.bos_id), ("eos", self.ours.eos_id), ("unk", self.ours.unk_id)):
            more[f"{name}_token"] = self._pieces[i]
        more.pop("pad_token", None)
        super().__init__(**more)

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return self.audio_id + 1

    def get_vocab(self) -> dict[str, int]:
        """Piece -> id."""
        return dict(self._ids)

    def get_added_vocab(self) -> dict[str, int]:
        """None: every piece is SentencePiece's own, or the recording."""
        return {}

    def tokenize(self, text: str, **_) -> list[str]:
        """The pieces of a text, span by span."""
        return self.convert_ids_to_tokens(marked_ids(self.ours, text, self.audio_id))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of pieces; the recording has none, and special pieces are written out."""
        return self._text(self.convert_tokens_to_ids(tokens), skip_special=False)

    def _decode(self, token_ids, skip_special_tokens: bool = False, **_) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return self._text(ids, skip_special_tokens)

    def _text(self, ids: list[int], skip_special: bool) -> str:
        return self.ours.decode([i for i in ids if i < self.ours.vocab_size], skip_special)

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self.ours.unk_id)

    def _convert_id_to_token(self, index: int) -> str:
        if index == self.audio_id:
            return PLACEHOLDER
        # rows of the model beyond the pieces: an answer of an untrained model may have them
        return self._pieces[index] if index < len(self._pieces) else f"<{index}>"

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None) -> list[int]:
        """The ids themselves: the marks say where `<s>` is."""
        return token_ids_0 + (token_ids_1 or [])

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Copy both files."""
        out = []
        for name in (self.vocab_file, self.config_file):
            target = Path(save_directory) / Path(name).name
            target.write_bytes(Path(name).read_bytes())
            out.append(str(target))
        return tuple(out)
