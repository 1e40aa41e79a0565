"""Other descriptions of a Whisper <-> `WhisperConfig`: Hugging Face's JSON, openai-whisper's `dims`."""

from mindspore_osum.config import Reader
from mindspore_osum.models.whisper.hugging_face import encoder_hf_config, encoder_values, openai_values
from mindspore_osum.systems.whisper_asr.config import WINDOW, WhisperConfig
from mindspore_osum.systems.whisper_asr.vocabulary import PUBLISHED, TIME_STEP, Vocabulary

GENERATION, FEATURES = "generation_config.json", "preprocessor_config.json"


def openai_stated(beside: dict, where: str) -> dict:
    """Configuration values of openai-whisper's `dims`; none where a file has no such."""
    dims = beside.get("dims")
    if not isinstance(dims, dict):
        return {}
    read = Reader(dims, f"{where}: dims")
    decoder = {
        "vocab_size": read.get("n_vocab", int),
        "d_model": read.get("n_text_state", int),
        "n_layers": read.get("n_text_layer", int),
        "n_heads": read.get("n_text_head", int),
        "max_positions": read.get("n_text_ctx", int),
    }
    out = {"encoder": openai_values(dims, f"{where}: dims"), "decoder": decoder}
    return out | {"positions": read.get("n_audio_ctx", int)}


def openai_dims(cfg: WhisperConfig) -> dict[str, dict[str, int]]:
    """What openai-whisper's files have beside the tensors."""
    enc, dec = cfg.encoder, cfg.decoder
    dims = {
        "n_mels": enc.n_mels,
        "n_audio_ctx": cfg.positions,
        "n_audio_state": enc.d_model,
        "n_audio_head": enc.n_heads,
        "n_audio_layer": enc.n_layers,
        "n_vocab": dec.vocab_size,
        "n_text_ctx": dec.max_positions,
        "n_text_state": dec.d_model,
        "n_text_head": dec.n_heads,
        "n_text_layer": dec.n_layers,
    }
    return {"dims": dims}


def hf_stated(values: dict, where: str) -> dict:
    """Configuration values of a folder's config.json, and generation_config.json if it has one."""
    read = Reader(values, where)
    decoder = {
        "vocab_size": read.get("vocab_size", int),
        "d_model": read.get("d_model", int),
        "n_layers": read.get("decoder_layers", int),
        "n_heads": read.get("decoder_attention_heads", int),
        "d_ff": read.get("decoder_ffn_dim", int),
        "max_positions": read.get("max_target_positions", int, 448),
    }
    out = {"encoder": encoder_values(values, where), "decoder": decoder}
    out["positions"] = read.get("max_source_positions", int, 1500)
    about = values.get(GENERATION, {})
    beside = where.replace("config.json", GENERATION)
    languages = about.get("lang_to_id")
    usual: dict[str, tuple[int, ...]] = {}
    if decoder["vocab_size"] in PUBLISHED:
        words = Vocabulary(*PUBLISHED[decoder["vocab_size"]])
        usual = {"suppressed": words.never, "suppressed_first": words.never_first}
    elif isinstance(languages, dict) and languages:
        out["languages"] = len(languages)
        decoder["eos_id"] = Reader(about, beside).get("eos_token_id", int)
    for ours, theirs in (("suppressed", "suppress_tokens"), ("suppressed_first", "begin_suppress_tokens")):
        found = about.get(theirs, values.get(theirs))
        if isinstance(found, list) and found != list(usual.get(ours, ())):
            out[ours] = found
    if isinstance(heads := about.get("alignment_heads"), list):
        out["alignment_heads"] = heads
    latest = about.get("max_initial_timestamp_index")
    if type(latest) is int:
        out["latest_first_time"] = latest * TIME_STEP
    return out


def hf_config(cfg: WhisperConfig) -> dict:
    """A config.json that makes transformers build this model."""
    dec, words = cfg.decoder, cfg.vocabulary
    return encoder_hf_config(cfg.encoder) | {
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": dec.vocab_size,
        "max_source_positions": cfg.positions,
        "max_target_positions": dec.max_positions,
        "decoder_layers": dec.n_layers,
        "decoder_attention_heads": dec.n_heads,
        "decoder_ffn_dim": dec.d_ff,
        "is_encoder_decoder": True,
        "bos_token_id": words.eot,
        "eos_token_id": words.eot,
        "pad_token_id": words.eot,
        "decoder_start_token_id": words.sot,
        "torch_dtype": cfg.dtype,
    }


def hf_more(cfg: WhisperConfig) -> dict[str, dict]:
    """The other descriptions of a Hugging Face folder."""
    words, features = cfg.vocabulary, cfg.features
    generation = {
        "bos_token_id": words.eot,
        "eos_token_id": words.eot,
        "pad_token_id": words.eot,
        "decoder_start_token_id": words.sot,
        "prev_sot_token_id": words.start_of_previous,
        "no_timestamps_token_id": words.no_timestamps,
        "suppress_tokens": list(suppressed(cfg)),
        "begin_suppress_tokens": list(suppressed_first(cfg)),
        "max_initial_timestamp_index": round(cfg.latest_first_time / TIME_STEP),
        "max_length": cfg.decoder.max_positions,
        "return_timestamps": False,
        "is_multilingual": words.multilingual,
    }
    if cfg.alignment_heads:
        generation["alignment_heads"] = [list(pair) for pair in cfg.alignment_heads]
    if words.multilingual:
        languages = {f"<|{code}|>": words.first_language + n for n, code in enumerate(words.codes)}
        tasks = {"transcribe": words.transcribe, "translate": words.translate}
        generation |= {"lang_to_id": languages, "task_to_id": tasks}
    extractor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": features.n_mels,
        "sampling_rate": features.sample_rate,
        "hop_length": features.hop,
        "n_fft": features.n_fft,
        "chunk_length": round(WINDOW),
        "n_samples": round(WINDOW * features.sample_rate),
        "nb_max_frames": features.frames_in(WINDOW),
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }
    return {GENERATION: generation, FEATURES: extractor}


def suppressed(cfg: WhisperConfig) -> tuple[int, ...]:
    """Tokens that no answer has."""
    return cfg.vocabulary.never if cfg.suppressed is None else cfg.suppressed


def suppressed_first(cfg: WhisperConfig) -> tuple[int, ...]:
    """Tokens that no answer begins with: a space alone, and the end."""
    return cfg.vocabulary.never_first if cfg.suppressed_first is None else cfg.suppressed_first
