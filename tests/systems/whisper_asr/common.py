"""What the tests of Whisper share: the golden tiny model as a folder, with a tokenizer of its size."""

import json

import numpy as np

ROWS = 50257  # pieces before the special ones


def write_tokenizer(folder, rows: int = ROWS):
    """tokenizer.json of `rows` pieces, of bytes alone: a piece for each, and others that no text has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [f"{a}{b}" for a in pieces for b in pieces][: rows - len(pieces)]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder


def small_folder(folder):
    """`folder` as a Whisper with random weights, windows of 4 s and few tokens."""
    from mindspore_osum.folder import save_folder
    from mindspore_osum.models.whisper.config import EncoderConfig, TextDecoderConfig
    from mindspore_osum.systems.whisper_asr.config import WhisperConfig
    from mindspore_osum.systems.whisper_asr.network import WhisperModel
    from tests.inference.common import fill

    sizes, pieces = {"d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 48}, 300
    cfg = WhisperConfig(
        encoder=EncoderConfig(**sizes, pad_to_seconds=4.0),
        decoder=TextDecoderConfig(1908, **sizes, eos_id=pieces),
        positions=200,
        suppressed=(),
        suppressed_first=(),
    )
    folder.mkdir()
    model = WhisperModel(cfg)
    fill(model, seed=5)
    save_folder(folder, model, write_tokenizer(folder, pieces))
    return folder


def prompt(ids, mel_TF):
    """A prompt of these tokens about a recording."""
    from mindspore_osum.systems.prompt import Prompt
    from mindspore_osum.text.sequence import Text, lay_out

    return Prompt(lay_out(None, [Text(ids)]), mel_TF)


def scores(model, mel_TF, ids) -> np.ndarray:
    """Scores (L, V) after each of the tokens, without a cache."""
    import mindspore as ms
    from mindspore import Tensor

    ids_1L, places_1L = np.array([ids], np.int32), np.arange(len(ids), dtype=np.int32)[None]
    frames = Tensor([len(mel_TF)], ms.int32)
    return model(Tensor(mel_TF[None]), frames, Tensor(ids_1L), Tensor(places_1L)).asnumpy()[0]


def word_errors(reference: str, said: str) -> tuple[int, int]:
    """Wrong words, and words, in lower case and without punctuation."""
    import jiwer

    plain = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.Strip()])
    counts = jiwer.process_words(plain(reference), plain(said) or "-")
    return counts.substitutions + counts.deletions + counts.insertions, len(plain(reference).split())
