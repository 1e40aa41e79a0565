"""Another program that runs a Whisper, in a process and perhaps an environment of its own.

Started by whisper.py as a script; imports nothing of this package. It answers JSON lines: {"what": name, ...}
in, {...} out. Recordings are .npy files of float32 samples at 16 kHz.

All are greedy, at most `MOST` tokens, without draws at higher temperatures, in float32 unless said otherwise.
"""

import importlib.metadata
import json
import os
import sys
import time
import warnings

if __name__ == "__main__":  # not from this folder, whose modules have names of others (requests)
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
import numpy as np  # noqa: E402

SAMPLES = 480_000  # of a window of 30 s
MOST = 224  # tokens of a window


class Transformers:
    """transformers with sdpa attention."""

    packages = ("torch", "transformers")

    def __init__(self, model: str, threads: int, kind: str):
        import torch
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, logging

        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.torch = torch
        self.model = WhisperForConditionalGeneration.from_pretrained(
            model, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self.extract = WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)
        self.how = {"task": "transcribe", "do_sample": False, "num_beams": 1}

    def windows(self, waves: list, language: str, times: bool) -> list[list[int]]:
        features = self.extract(waves, sampling_rate=16000, return_tensors="pt").input_features
        with self.torch.inference_mode():
            found = self.model.generate(
                features, language=language, return_timestamps=times, max_new_tokens=MOST, **self.how
            )
        return found.tolist()

    def talk(self, wave, language: str) -> list[list[int]]:
        inputs = self.extract(
            wave,
            sampling_rate=16000,
            return_tensors="pt",
            truncation=False,
            padding="longest",
            return_attention_mask=True,
        )
        with self.torch.inference_mode():
            found = self.model.generate(**inputs, language=language, return_timestamps=True, **self.how)
        return found.tolist()


class OpenAI:
    """openai-whisper."""

    packages = ("torch", "openai-whisper")

    def __init__(self, model: str, threads: int, kind: str):
        import torch
        import whisper

        torch.set_num_threads(threads)
        self.torch, self.whisper, self.model = torch, whisper, whisper.load_model(model, device="cpu")

    def windows(self, waves: list, language: str, times: bool) -> list[list[int]]:
        spoken, bins = self.whisper, self.model.dims.n_mels
        mels = [spoken.log_mel_spectrogram(spoken.pad_or_trim(wave), bins) for wave in waves]
        how = spoken.DecodingOptions(language=language, without_timestamps=not times, fp16=False)
        return [found.tokens for found in spoken.decode(self.model, self.torch.stack(mels), how)]

    def talk(self, wave, language: str) -> list[list[int]]:
        found = self.whisper.transcribe(
            self.model,
            wave,
            language=language,
            temperature=0.0,
            condition_on_previous_text=False,
            fp16=False,
        )
        return [segment["tokens"] for segment in found["segments"]]


class Faster:
    """faster-whisper: CTranslate2, in the type `kind`."""

    packages = ("ctranslate2", "faster-whisper")

    def __init__(self, model: str, threads: int, kind: str):
        import faster_whisper
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        self.faster = faster_whisper
        self.model = faster_whisper.WhisperModel(model, device="cpu", compute_type=kind, cpu_threads=threads)
        self.tokenizer = lambda language: Tokenizer(self.model.hf_tokenizer, True, "transcribe", language)
        self.suppressed = get_suppressed_tokens(self.tokenizer("en"), [-1])

    def windows(self, waves: list, language: str, times: bool) -> list[list[int]]:
        extract, model = self.model.feature_extractor, self.model
        pad = self.faster.audio.pad_or_trim
        encoded = model.encode(np.stack([pad(extract(wave)) for wave in waves]))
        prompt = model.get_prompt(self.tokenizer(language), [], without_timestamps=not times)
        found = model.model.generate(
            encoded,
            [prompt] * len(waves),
            beam_size=1,
            max_length=MOST + len(prompt),
            suppress_tokens=self.suppressed,
            max_initial_timestamp_index=50,
        )
        return [one.sequences_ids[0] for one in found]

    def talk(self, wave, language: str) -> list[list[int]]:
        found, _ = self.model.transcribe(
            wave, language=language, beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        return [segment.tokens for segment in found]


KINDS = {"transformers": Transformers, "openai": OpenAI, "faster": Faster}


class Side:
    """What the lines ask for."""

    def load(
        self, name: str, model: str, threads: int, end: int, first_time: int, kind: str = "float32"
    ) -> dict:
        """Load a model with these special tokens; the versions of its packages."""
        self.end, self.first_time = end, first_time
        self.one = KINDS[name](model, threads, kind)
        return {"versions": {p: importlib.metadata.version(p) for p in self.one.packages}}

    def run(self, wavs: list[str], language: str = "en", times: bool = False, talk: bool = False) -> dict:
        """Transcribe windows together, or a talk as the program does it itself."""
        waves = [np.load(wav) for wav in wavs]
        start, cpu = time.perf_counter(), time.process_time()
        if talk:
            found = self.one.talk(waves[0], language)
        else:
            found = self.one.windows(waves, language, times)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "tokens": [self.written(ids) for ids in found]}

    def written(self, ids) -> list[int]:
        """Text and timestamps of an answer, without the prompt's tokens, the end and padding."""
        return [int(i) for i in ids if i < self.end or i >= self.first_time]


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    warnings.simplefilter("ignore")
    side = Side()
    for line in sys.stdin:
        values = json.loads(line)
        try:
            found = getattr(side, values.pop("what"))(**values)
        except ImportError as error:
            found = {"missing": str(error).splitlines()[0]}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
