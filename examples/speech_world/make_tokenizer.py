"""Build the speech world's SentencePiece model, in the style of openPangu's, from its vocabulary.

    python examples/speech_world/make_tokenizer.py --manifest train.jsonl --output tokenizer.model

SentencePiece's own training does not give one piece per word on such a small text, so the model is written
piece by piece: reserved pieces and bytes as in openPangu, tags and labels, printable ASCII, and one piece per
word and per Chinese character. The scores favour the segmentation with the fewest pieces.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import contents
import grammar
from manifests import LONGEST_TIME, STEP

from mindspore_osum.data import requests
from mindspore_osum.errors import UserError
from mindspore_osum.files import replacing

RESERVED = ("[unused9]", "[unused10]", "[unused16]", "[unused17]")  # ids 3-6; [unused10] ends an answer
# Ids follow the order of these lists, and trained models depend on ids: do not reorder.
CHAT = ("<|im_start|>", "<|im_end|>")
TAGS = ("asr", "align", "event", "emotion", "style", "gender", "age", "chat", "caption", "开始回答")
LABELS = (
    ("MALE", "FEMALE"),
    ("CHILD", "ADULT", "OLD"),
    ("SAD", "ANGER", "NEUTRAL", "HAPPY", "SURPRISE", "FEAR", "DISGUST", "OTHER"),
    ("LAUGH", "COUGH", "CRY", "SCREAMING", "SIGH", "THROAT CLEARING", "SNEEZE"),
    ("新闻科普", "恐怖故事", "童话故事", "客服", "诗歌散文", "有声书", "日常口语", "其他"),
)
TIMES = [f"<{i * STEP:.2f}>" for i in range(round(LONGEST_TIME / STEP) + 1)]  # word timestamps in training
# Words of the chat template, the system prompts and the plain requests, so that prompts have few pieces.
FRAME = ("system", "user", "assistant", "You", "First", "chat")  # of the prompts, without space before
PROMPT_EN = """
You are OSUM chat an audio understanding assistant by ASLP Lab You can transcribe speech accurately and
analyze paralinguistic cues to provide precise text responses First perform intent recognition on the user
input output the corresponding task tag then execute the relevant task based on the tag a speech to text
dialogue You understand both the meaning and in then respond exclusively with appropriate reply Please tell
me what is said who how old speaker emotion gender age style event time question answer
"""
PROMPT_ZH = """
你能听这段语音然后告诉我内容吗？把这段音频里的内容写出来，每个词和字都标上时间 录音 还有标出里面发生的事
你帮我听听，说说都说了啥，还有里面的人情绪怎么样？最后加上个风格标签 能不能告诉我，说话的人是男是女？
还有说话的人大概多大年纪 然后把答案告诉我 请对以下文本进行意图分类。判断输入文本属于哪种 写下来
"""
ASCII = [chr(code) for code in range(0x21, 0x7F)]
SPACE = "\u2581"  # SentencePiece's space symbol; a dummy one is put before every text


def manifest_words(manifest: Path) -> set[str]:
    """English words and Chinese characters in the texts of a manifest, without tags in < >.

    Raises
    ------
    UserError
        The manifest cannot be read, or a line has no text.
    """
    found: set[str] = set()
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {manifest}: {error}; give a UTF-8 file of JSON lines") from None
    for number, line in enumerate(lines, 1):
        try:
            found |= units(re.sub(r"<[^>]*>", " ", json.loads(line)["txt"]))
        except (ValueError, KeyError, TypeError):
            raise UserError(f'{manifest}:{number}: give a JSON object with a "txt" string') from None
    return found


def units(text: str) -> set[str]:
    """Words of ASCII letters, and every character that is neither ASCII nor a space."""
    return set(re.findall(r"[A-Za-z]+|[^\x00-\x7f\s]", text))


def pieces(spoken: set[str], prompted: set[str]) -> list[tuple[str, float, str]]:
    """(text, score, type name) of the pieces after the reserved ones and bytes, each once, in a fixed order.

    `spoken` words have two pieces: with a space before them, and without, as after a tag such as <asr>.
    """
    tags = [f"<{tag}>" for tag in TAGS] + [f"<{label}>" for labels in LABELS for label in labels] + TIMES
    table = [(text.replace(" ", SPACE), 0.0, "USER_DEFINED") for text in (*CHAT, *tags)]
    table += [(SPACE, -2.0, "NORMAL")] + [(char, -2.0, "NORMAL") for char in ASCII]
    words = spoken | prompted
    latin = sorted(word for word in words if word.isascii())
    bare = sorted(word for word in spoken | set(FRAME) if word.isascii() and len(word) > 1)
    table += [(SPACE + word, -1.0, "NORMAL") for word in latin] + [(word, -1.0, "NORMAL") for word in bare]
    # The largest score is 0, so SentencePiece prefers a tag to its letters; a single character has no rival.
    table += [(char, 0.0, "NORMAL") for char in sorted(words) if not char.isascii()]
    return table


def build(spoken: set[str], prompted: set[str]) -> bytes:
    """The serialised model; English words and Chinese characters of both sets become one piece each."""
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = proto.ModelProto()
    kind = proto.ModelProto.SentencePiece

    def add(text: str, score: float, name: str) -> None:
        model.pieces.add(piece=text, score=score, type=getattr(kind, name))

    add("<unk>", 0.0, "UNKNOWN")
    add("<s>", 0.0, "CONTROL")
    add("</s>", 0.0, "CONTROL")
    for text in RESERVED:
        add(text, 0.0, "USER_DEFINED")
    for value in range(256):
        add(f"<0x{value:02X}>", 0.0, "BYTE")
    for piece in pieces(spoken, prompted):
        add(*piece)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = proto.TrainerSpec.UNIGRAM
    trainer.vocab_size = len(model.pieces)
    trainer.byte_fallback = True
    trainer.split_digits = True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return model.SerializeToString(deterministic=True)


def vocabulary_size(model: bytes) -> int:
    """Number of pieces of a serialised model, counted by SentencePiece itself."""
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=model).vocab_size()


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, nargs="*", default=[], help="add the words of these")
    parser.add_argument("--output", type=Path, required=True, help="tokenizer.model to write")
    options = parser.parse_args(arguments)
    try:
        known = [source.vocabulary(lang) for source in (grammar, contents) for lang in grammar.LANGUAGES]
        spoken = set().union(*known)
        for manifest in options.manifest:
            spoken |= manifest_words(manifest)
        data = build(spoken, units(PROMPT_EN) | units(PROMPT_ZH) | set(requests.vocabulary()))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(options.output) as file:
            file.write(data)
    except (UserError, OSError) as error:
        sys.exit(f"make_tokenizer.py: {error}")
    print(f"{options.output}: {len(data)} bytes, {vocabulary_size(data)} pieces, {len(spoken)} spoken words")


if __name__ == "__main__":
    main()
