"""TouchASU against recorded outputs of the published PyTorch code, from its checkpoint and recordings.

Tolerances are those that the golden data were issued with.
Legend: T mel frames, L positions, M positions with a next one, Z speech tokens, D width, V vocabulary.
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from ckpt_convert.plan import adapted
from mindspore_osum.data.batches.batching import Shape, padded_batch
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.folder import load_folder
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.systems.registry import system_of
from mindspore_osum.systems.touch_asu.job import Loss, Sections
from mindspore_osum.text.tokenizer import open_tokenizer

SYSTEM = system_of("touch_asu")
NAMES = ("asr1", "asr2")
PADDED = 144  # mel frames of the batch: longer than both recordings


@pytest.fixture(scope="module")
def arrays(golden) -> dict:
    """Recorded arrays by name of the item."""
    found = {}
    for name in NAMES:
        with np.load(golden / f"golden_{name}.npz") as file:
            found[name] = dict(file)
    return found


@pytest.fixture(scope="module")
def utterances(golden, tmp_path_factory):
    """Both recordings, from lines as WEST has them."""
    lines = tmp_path_factory.mktemp("lines") / "data.jsonl"
    texts = {"wav1.wav": "turn on the light", "wav2.wav": "what is the weather today"}
    lines.write_text("".join(f'{{"wav": "{golden / wav}", "txt": "{txt}"}}\n' for wav, txt in texts.items()))
    return read_manifest(lines)[0]


@pytest.fixture(scope="module")
def examples(utterances, model, folder) -> list[dict]:
    """Their columns, as training has them."""
    extractor = SYSTEM.extractor(model.cfg, open_tokenizer(folder))
    return [extractor.example(utt, None, extractor.features(utt)) for utt in utterances]


def batch_of(examples, cfg, frames: int = PADDED) -> dict:
    """A padded batch of one utterance per row, with its count of targets."""
    shape = Shape(len(examples), frames, cfg.tokens(frames), 60)
    columns = padded_batch(SYSTEM.columns, {"mels": cfg.features.n_mels}, shape, examples)
    targets = sum(int((one["labels_BL"] != -100).sum()) for one in examples)
    columns["targets_B"] = np.full(len(examples), targets, np.float32)
    return {name: Tensor(values) for name, values in columns.items()}


@pytest.mark.parametrize("n, name", [*enumerate(NAMES)])
def test_sequence(examples, arrays, n, name):
    """Ids, labels and the places of speech tokens; features."""
    want, got = arrays[name], examples[n]
    assert np.array_equal(got["token_ids_BL"], want["in_input_ids"][0])
    assert np.array_equal(got["labels_BL"][1:], want["in_labels"][0][1:])
    row_L, start = got["speech_row_BL"], int(want["in_audio_offsets"][0])
    slots = int((row_L >= 0).sum())
    assert np.array_equal(row_L[start : start + slots], 2 + np.arange(slots))
    assert (row_L[:start] < 0).all() and (row_L[start + slots :] < 0).all()
    assert np.abs(got["mel_BTF"] - want["in_audio_features"][0]).max() <= 1e-4
    assert slots - int(want["speech_lens"][0]) == (1 if name == "asr1" else 0)  # a placeholder is left over


class Forward(nn.Cell):
    """Stages of a batch."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, mel_BTF, mel_len_B, ids_BL, row_BL, positions_BL, segments_BL):
        frames_BUD = self.model.encoder(mel_BTF, mel_len_B)[0]
        z_BZD, whole_B = self.model.encode_speech(mel_BTF, mel_len_B)
        x_BLD = self.model.embed(ids_BL, row_BL, z_BZD)
        hidden_BLD = self.model.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))
        return frames_BUD, z_BZD, whole_B, x_BLD, self.model.decoder.logits(hidden_BLD)


@pytest.fixture(scope="module")
def model(folder):
    return load_folder(folder)


@pytest.fixture(scope="module")
def forward(model, examples):
    """Stages of both recordings, computed as one padded batch."""
    batch = batch_of(examples, model.cfg)
    names = ("mel_BTF", "mel_len_B", "token_ids_BL", "speech_row_BL", "positions_BL", "segments_BL")
    return [out.asnumpy() for out in Forward(model)(*(batch[name] for name in names))]


@pytest.mark.parametrize("n, name", [*enumerate(NAMES)])
def test_stages_and_logits(forward, arrays, examples, n, name):
    """Odd lengths in a batch give what the published code gives for each recording alone."""
    frames_BUD, z_BZD, whole_B, x_BLD, logits_BLV = forward
    want, length = arrays[name], len(examples[n]["token_ids_BL"])
    frames_UD, z_ZD = want["encoder_out"][0], want["projector_out"][0]
    assert np.abs(frames_BUD[n, : len(frames_UD)] - frames_UD).max() <= 1e-4
    assert whole_B[n] == len(z_ZD) == int(want["speech_lens"][0])
    assert np.abs(z_BZD[n, : len(z_ZD)] - z_ZD).max() <= 1e-4
    x_LD, want_LD = x_BLD[n, :length], want["inputs_embeds"][0]
    speech_L = np.zeros(length, bool)
    start = int(want["in_audio_offsets"][0])
    speech_L[start : start + len(z_ZD)] = True
    assert np.array_equal(x_LD[~speech_L], want_LD[~speech_L])  # the placeholder that is left over, too
    assert np.abs(x_LD - want_LD).max() <= 1e-4
    logits_LV = logits_BLV[n, :length]
    assert np.abs(logits_LV - want["logits"][0]).max() <= 1e-4
    assert np.array_equal(logits_LV.argmax(-1), want["argmax"][0])


@pytest.fixture(scope="module")
def objective(model):
    return SYSTEM.objective(model, Sections(), 0, 0, True)


@pytest.mark.parametrize("n, name", [*enumerate(NAMES)])
def test_loss(objective, model, examples, arrays, n, name):
    loss, values, counts = objective(batch_of(examples[n : n + 1], model.cfg))
    assert abs(float(loss) - float(arrays[name]["loss"])) <= 1e-4
    labels = int((examples[n]["labels_BL"][1:] != -100).sum())
    sums = {key: float(values[key]) for key in ("answer_loss", "prompt_loss")}
    assert int(counts["answer_loss"]) + int(counts["prompt_loss"]) == labels
    assert abs(sum(sums.values()) / labels - float(loss)) <= 1e-5


def test_loss_of_answers_alone(model, utterances, folder, arrays):
    """The labels of the last answer and its end are the same; all others are left out."""
    sections = Sections(loss=Loss(prompt=False))
    extractor = SYSTEM.extractor(model.cfg, open_tokenizer(folder), sections)
    example = extractor.example(utterances[0], None, extractor.features(utterances[0]))
    labels_M = example["labels_BL"][1:]
    assert (labels_M != -100).sum() == extractor.scan(utterances[0]).labels < 20
    objective = SYSTEM.objective(model, sections, 0, 0, True)
    loss = float(objective(batch_of([example], model.cfg))[0])
    assert abs(loss + arrays["asr1"]["target_logprob"][0][labels_M != -100].mean()) <= 1e-4


def test_gradients(objective, model, examples, golden):
    """Of the parameters that learn, with what the published code has for one recording."""
    form, expected = SYSTEM.forms(model.cfg)["published"], SYSTEM.shapes(model.cfg)
    learned = [
        param
        for name, param in objective.parameters_and_names()
        if SYSTEM.job.part_of(name) in ("adapter", "lora")
    ]
    batch = batch_of(examples[:1], model.cfg)
    names = list(batch)

    def loss(*columns):
        # a graph loses types with `dict(zip(...))`
        return objective({name: values for name, values in zip(names, columns)})[0]  # noqa: C416

    grads = ms.value_and_grad(loss, None, learned)(*batch.values())[1]
    with np.load(golden / "gradients_asr1.npz") as want:
        assert len(want.files) == len(learned) == 34
        for param, grad in zip(learned, grads, strict=True):
            name = param.name.removeprefix("model.")
            key = form.theirs(name, adapted(name, expected), peft=True)
            most = np.abs(want[key]).max()
            assert np.abs(grad.asnumpy() - want[key]).max() <= 1e-4 * most, key


def test_greedy_tokens(golden, folder, arrays):
    """Both recordings as one batch, by the engine: prompts, tokens and their number."""
    engine = Engine(folder, device="CPU")
    for name, wav in zip(NAMES, ("wav1.wav", "wav2.wav"), strict=True):
        prompt, _ = engine.prompt(str(golden / wav), make_request("asr"))
        want = arrays[name]["gen_input_ids"][0]
        assert np.array_equal(np.maximum(prompt.sequence.ids_L, 0), want)
    wavs = [str(golden / wav) for wav in ("wav1.wav", "wav2.wav")]
    prompts = [engine.prompt(wav, make_request("asr"))[0] for wav in wavs]
    sampling = Sampling(max_new_tokens=50, loops="keep")
    found = engine.generator.generate(prompts, sampling, 2)
    for name, written in zip(NAMES, found, strict=True):
        assert list(written.tokens) == arrays[name]["gen_tokens"][0].tolist()
