"""Loss, gradients and what lies between, of a model folder on the golden sequences: TASK.json -> an .npz.

Everything that is asked of the package's inner modules is in this file.
Legend: N audio slots, B sequences, L positions, T mel frames, F mel bins.
"""

import json
import sys

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindspore_osum.folder import load_folder
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel

FRAMES_A_TOKEN = 8  # of this adapter
NO_LABEL, SPEECH_BEGIN, SPEECH, SPEECH_END = -100, -2, -1, -3


class Parts(nn.Cell):
    """The loss first, then what is computed on the way to it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_NTF, mel_len_N, ids_BL, rows_BL, labels_BL, positions_BL, segments_BL):
        loss = self.model(mel_NTF, mel_len_N, ids_BL, rows_BL, labels_BL, positions_BL, segments_BL)
        frames_NUD, _ = self.model.encoder(mel_NTF, mel_len_N)
        speech_NZD, _ = self.model.encode_speech(mel_NTF, mel_len_N)
        x_BLD = self.model.embed(ids_BL, rows_BL, speech_NZD)
        hidden_BLD = self.model.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))
        return loss, frames_NUD, speech_NZD, x_BLD, self.model.decoder.logits(hidden_BLD)


def batch(mel_TF: np.ndarray, sequences: list[tuple[list, list]], rows: list[list[int]], length: int) -> list:
    """Sequences (ids, labels) with one recording each; ``rows[b]`` are those that share row b."""
    slots, n = -(-len(mel_TF) // FRAMES_A_TOKEN), len(sequences)
    arrays = {name: np.zeros((len(rows), length), np.int32) for name in ("ids", "positions", "segments")}
    arrays |= {"rows": np.full((len(rows), length), -1, np.int32)}
    arrays |= {"labels": np.full((len(rows), length), NO_LABEL, np.int32)}
    for b, members in enumerate(rows):
        start = 0
        for segment, k in enumerate(members, 1):
            ids, labels = (np.array(values) for values in sequences[k])
            here, speech = slice(start, start + len(ids)), ids == SPEECH
            places = np.where(speech, 2 + k * slots + np.cumsum(speech) - 1, -1)
            places = np.where(ids == SPEECH_BEGIN, 0, np.where(ids == SPEECH_END, 1, places))
            arrays["rows"][b, here], arrays["ids"][b, here] = places, np.maximum(ids, 0)
            arrays["labels"][b, here] = [NO_LABEL, *labels[1:]]
            arrays["positions"][b, here], arrays["segments"][b, here] = np.arange(len(ids)), segment
            start += len(ids)
    order = ("ids", "rows", "labels", "positions", "segments")
    mel_NTF = np.repeat(mel_TF[None], n, 0)
    return [Tensor(mel_NTF), Tensor(np.full(n, len(mel_TF), np.int32)), *(Tensor(arrays[x]) for x in order)]


def main() -> None:
    """Two packed sequences in one row, and one padded in another."""
    with open(sys.argv[1], encoding="utf-8") as file:
        task = json.load(file)
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    mel_TF = log_mel(load_audio(f"{task['golden']}/wav1.wav"))
    with np.load(f"{task['golden']}/golden_wav1.npz") as arrays:
        golden = dict(arrays)

    def answered(name: str) -> tuple[list, list]:
        ids, answer = golden[f"{name}_input_ids"][0].tolist(), golden[f"{name}_tokens"].tolist()
        return ids + answer, [NO_LABEL] * len(ids) + answer

    trained = golden["train_input_ids"][0].tolist(), golden["train_labels"][0].tolist()
    sequences = [trained, answered("gen"), answered("chat")]
    length = 3 + len(trained[0]) + max(len(ids) for ids, _ in sequences)
    inputs = batch(mel_TF, sequences, [[0, 1], [2]], length)
    parts = Parts(load_folder(task["model"]))
    named = dict(parts.model.parameters_and_names())
    gradients = ms.value_and_grad(parts, None, weights=list(named.values()), has_aux=True)
    outputs, found = gradients(*inputs)
    names = ("loss", "encoder output", "speech tokens", "input embeddings", "logits")
    arrays = {"features": mel_TF} | {name: out.asnumpy() for name, out in zip(names, outputs, strict=True)}
    arrays |= {f"gradient of {name}": g.asnumpy() for name, g in zip(named, found, strict=True)}
    np.savez(task["arrays"], **arrays)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump({}, file)


if __name__ == "__main__":
    main()
