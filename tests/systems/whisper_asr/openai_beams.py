"""openai-whisper's beam search, for a Python that has it: MODEL.pt BEAMS < lines of wav > lines of JSON."""

import json
import sys

import soundfile
import torch
import whisper

torch.set_num_threads(1)
model = whisper.load_model(sys.argv[1], device="cpu").float()
options = whisper.DecodingOptions(language="en", beam_size=int(sys.argv[2]), fp16=False)
for line in sys.stdin:
    wave_N, rate = soundfile.read(line.strip(), dtype="float32")
    assert rate == 16_000 and wave_N.ndim == 1
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(wave_N), model.dims.n_mels)
    found = whisper.decode(model, mel, options)
    told = {"wav": line.strip(), "tokens": found.tokens, "avg_logprob": found.avg_logprob}
    print(json.dumps(told), flush=True)
