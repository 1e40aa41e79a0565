"""The plugin in vLLM 0.11 with vLLM-MindSpore 0.5.1: registration, processor, model class and weights.

The operators of LlamaModel that only Ascend has are in NumPy here (ascend_in_numpy.py): one prompt is read by
them, and none is continued.
"""

import base64
import importlib.metadata
import importlib.util
import io

import ascend_in_numpy
import numpy as np
import pytest
from original_model import close, decoded, heard, mel, original

from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.systems.osum.vllm import ARCHITECTURE
from mindspore_osum.weights_io import open_weights

if not all(importlib.util.find_spec(name) for name in ("vllm", "vllm_mindspore")):
    pytest.skip("needs vllm and vllm-mindspore, see README.md", allow_module_level=True)

LENGTHS = (1, 159, 160, 161, 5000, 16000, 16161, 99999, 160000)  # samples


def wave(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples).astype(np.float32) * 0.1


@pytest.fixture(scope="module")
def settings(exported):
    """vLLM's own configuration of the exported folder."""
    from vllm.engine.arg_utils import EngineArgs  # which loads the plugin

    asked = EngineArgs(model=str(exported), dtype="float32", enforce_eager=True, max_model_len=400)
    return asked.create_engine_config()


@pytest.fixture(scope="module")
def processor(settings):
    from vllm.multimodal import MULTIMODAL_REGISTRY

    return MULTIMODAL_REGISTRY.create_processor(settings.model_config)


@pytest.fixture(scope="module")
def model(settings, exported):
    """The model class with the weights of the folder, as vLLM-MindSpore's loader makes and fills it."""
    import mindspore as ms
    import vllm.distributed.parallel_state as state
    from mindspore.nn.utils import no_init_parameters
    from vllm.config import set_current_vllm_config
    from vllm_mindspore.model_executor.model_loader.weight_utils import safetensors_weights_iterator
    from vllm_mindspore.model_executor.models.registry import MindSporeModelRegistry

    with set_current_vllm_config(settings):
        address = "tcp://127.0.0.1:0"
        state.init_distributed_environment(1, 0, address, 0, backend="gloo")
        state.initialize_model_parallel(1, 1, backend="gloo")
        made, _ = MindSporeModelRegistry.resolve_model_cls([ARCHITECTURE], settings.model_config)
        settings.model_config.dtype = ms.float32  # with MSAdapter, torch.float32 is this
        with no_init_parameters():
            model = made(vllm_config=settings)
        files = [str(exported / "model.safetensors")]
        model.loaded = model.load_weights(safetensors_weights_iterator(files, False))
        ascend_in_numpy.replace(model.model)
        yield model
    state.destroy_model_parallel()
    state.destroy_distributed_environment()


def test_vllm_finds_the_plugin_and_the_model(settings):
    names = [point.value for point in importlib.metadata.entry_points(group="vllm.general_plugins")]
    assert "osum_vllm:register" in names
    config = settings.model_config
    assert config.architectures == [ARCHITECTURE]
    assert config.is_multimodal_model and config.max_model_len == 400
    assert config.registry.is_pp_supported_model([ARCHITECTURE], config)
    assert (config.get_vocab_size(), config.get_head_size(), config.get_total_num_kv_heads()) == (512, 12, 2)
    assert config.get_diff_sampling_param() == {"temperature": 0.0}


def placed(out) -> tuple[int, int]:
    (found,) = out["mm_placeholders"]["audio"]
    return found.offset, found.length


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_recording_has_a_place_for_each_embedding(processor, settings, samples):
    cfg, audio_id = settings.model_config.hf_config.model, settings.model_config.hf_config.audio_token_id
    features = log_mel(wave(samples), cfg.features)
    count = cfg.tokens(len(features)) + 2
    by_text = processor.apply("hello <|audio|> there", {"audio": wave(samples)}, {})
    ids = processor.info.get_tokenizer().encode("hello <|audio|> there", add_special_tokens=False)
    by_ids = processor.apply(ids, {"audio": wave(samples)}, {})
    at = ids.index(audio_id)
    for out in (by_text, by_ids):
        assert out["prompt_token_ids"] == ids[:at] + [audio_id] * count + ids[at + 1 :]
        assert placed(out) == (at, count)
        (item,) = out["mm_kwargs"]["audio"]
        assert np.array_equal(np.asarray(item["audio_mel"].data), features)


def test_a_recording_that_was_seen_before_gets_the_same_place(settings):
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.cache import MultiModalProcessorOnlyCache

    cache = MultiModalProcessorOnlyCache(settings.model_config)
    processor = MULTIMODAL_REGISTRY.create_processor(settings.model_config, cache=cache)
    outs = [processor.apply("a <|audio|> b", {"audio": wave(16000)}, {}) for _ in range(2)]
    assert placed(outs[0]) == placed(outs[1])
    assert outs[0]["prompt_token_ids"] == outs[1]["prompt_token_ids"]


def test_other_sample_rates_are_resampled(processor):
    out = processor.apply("<|audio|>", {"audio": (wave(8000), 8000)}, {})
    assert placed(out) == placed(processor.apply("<|audio|>", {"audio": wave(16000)}, {}))


@pytest.mark.parametrize(
    "samples, what", [(60 * 16000 + 160, "at most 60 s; split it"), (0, "audio"), ("nan", "NaN or infinite")]
)
def test_recordings_that_the_model_does_not_take(processor, samples, what):
    given = np.full(1600, np.nan, np.float32) if samples == "nan" else np.zeros(samples, np.float32)
    with pytest.raises((ValueError, RuntimeError, AssertionError), match=what):
        processor.apply("<|audio|>", {"audio": [given]}, {})


def test_two_recordings_are_refused(processor):
    with pytest.raises(ValueError, match="At most 1 audio"):
        processor.apply("<|audio|><|audio|>", {"audio": [wave(1600), wave(1600)]}, {})


def test_vllm_measures_memory_with_the_longest_recording_that_fits(settings):
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.profiling import MultiModalProfiler

    config = settings.model_config
    most = MULTIMODAL_REGISTRY.get_max_tokens_per_item_by_modality(config)["audio"]
    assert 390 <= most <= 400
    profiler = MultiModalProfiler(MULTIMODAL_REGISTRY.create_processor(config))
    out = profiler.get_decoder_dummy_data(400, {"audio": 1})
    assert len(out.prompt_token_ids) == 400
    assert [place.length for place in out.multi_modal_placeholders["audio"]] == [most]


def test_messages_become_the_prompt_of_our_engine(settings, exported):
    from osum_vllm.requests import Requests
    from vllm.entrypoints.chat_utils import apply_hf_chat_template, parse_chat_messages

    config = settings.model_config
    from vllm.transformers_utils.tokenizer import get_tokenizer

    tokenizer = get_tokenizer(str(exported))
    audio = {"type": "input_audio", "input_audio": {"data": encoded(wave(16000)), "format": "wav"}}
    content = [{"type": "text", "text": "Who [unused10] speaks?"}, audio]
    messages, data, _ = parse_chat_messages(
        [{"role": "user", "content": content}], config, tokenizer, content_format="string"
    )
    text = apply_hf_chat_template(
        tokenizer, messages, None, tools=None, model_config=config, add_generation_prompt=True
    )
    asked = Requests(exported).prompt(wave(16000), instruction="Who [unused10] speaks?")
    assert tokenizer.encode(text, add_special_tokens=False) == asked.inputs["prompt_token_ids"]
    assert len(data["audio"]) == 1


def encoded(samples: np.ndarray) -> str:
    """Samples as base64 of a WAV file."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


def test_only_audio_has_a_placeholder(model):
    assert type(model).get_placeholder_str("audio", 1) == "<|audio|>"
    with pytest.raises(ValueError, match="it takes audio only"):
        type(model).get_placeholder_str("image", 1)


def test_every_tensor_of_the_folder_is_consumed_and_every_parameter_filled(model, exported):
    names = {name for name, _ in model.named_parameters()}
    assert model.loaded == names
    with open_weights(exported) as weights:
        stacked = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
        stacked |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
        for name in weights.infos:
            own = name if name.startswith(("model.", "lm_head.")) else f"speech.{name}"
            for part, whole in stacked.items():
                own = own.replace(f".{part}.", f".{whole}.")
            assert own in names, name


def test_values_of_the_decoder_are_those_of_the_folder(model, exported):
    params = model.get_params_dict()
    with open_weights(exported) as weights:
        for layer in (0, 1):
            for parts, whole in (
                (("q_proj", "k_proj", "v_proj"), "self_attn.qkv_proj"),
                (("gate_proj", "up_proj"), "mlp.gate_up_proj"),
            ):
                prefix, module = f"model.layers.{layer}", whole.split(".")[0]
                expected = [weights.read(f"{prefix}.{module}.{part}.weight") for part in parts]
                assert np.array_equal(params[f"{prefix}.{whole}.weight"].asnumpy(), np.concatenate(expected))
            biases = [weights.read(f"{prefix}.self_attn.{x}_proj.bias") for x in "qkv"]
            assert np.array_equal(
                params[f"{prefix}.self_attn.qkv_proj.bias"].asnumpy(), np.concatenate(biases)
            )
            name = f"{prefix}.self_attn.o_proj.bias"
            assert np.array_equal(params[name].asnumpy(), weights.read(name))
        for name in ("model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"):
            read = weights.read(name)
            assert np.array_equal(params[name].asnumpy()[: len(read)], read)


def test_unknown_tensors_are_refused(model):
    for name in ("model.layers.0.self_attn.q_norm.weight", "encoder.nothing.weight"):
        with pytest.raises(ValueError, match="no such tensor"):
            model.load_weights([(name, np.zeros(3, np.float32))])


def test_weights_of_another_type_are_refused(model, tmp_path):
    from safetensors.numpy import save_file
    from vllm_mindspore.model_executor.model_loader.weight_utils import safetensors_weights_iterator

    file = str(tmp_path / "model.safetensors")
    save_file({"model.norm.weight": np.ones(48, np.float16)}, file)
    with pytest.raises(ValueError, match="is F16 in the folder .* float32: start it with --dtype float16"):
        model.load_weights(safetensors_weights_iterator([file], False))


def test_embeddings_of_recordings_are_those_of_the_original_model(model, folder):
    import torch

    mels = [mel(frames) for frames in (1, 130, 333)]
    found = model.get_multimodal_embeddings(audio_mel=[torch.from_numpy(mel_TF) for mel_TF in mels])
    for rows, mel_TF in zip(found, mels):
        close(rows.asnumpy(), heard(folder, mel_TF))
    same = model.get_multimodal_embeddings(audio_mel=torch.from_numpy(np.stack([mels[2]] * 2)))
    close(same[1].asnumpy(), found[2].asnumpy())
    assert model.get_multimodal_embeddings() is None


def test_the_decoders_input_is_that_of_the_original_model(model, folder, processor, exported):
    """Of a request as our engine asks it: the prompt, the processor and the merge together."""
    import mindspore as ms
    from mindspore import Tensor
    from osum_vllm.requests import Requests

    from mindspore_osum.inference.request import make_request
    from mindspore_osum.text.sequence import stack_sequences

    requests, samples = Requests(exported), wave(33333)
    asked = requests.prompt(samples, task="asr")
    out = processor.apply(asked.inputs["prompt_token_ids"], asked.inputs["multi_modal_data"], {})
    (item,) = out["mm_kwargs"]["audio"]
    heard_rows = model.get_multimodal_embeddings(audio_mel=[item["audio_mel"].data])
    found = model.get_input_embeddings(Tensor(out["prompt_token_ids"], ms.int32), heard_rows)

    theirs, cfg = original(folder), requests.cfg
    features = log_mel(samples, cfg.features)
    z = cfg.tokens(len(features))
    sequence = SYSTEM.prompts(cfg, requests.tokenizer).prompt(make_request("asr"), z).sequence
    columns = stack_sequences([sequence], len(sequence), z, 1)
    z_1ZD = Tensor(heard(folder, features)[None, 1:-1])
    rows = (Tensor(columns["token_ids_BL"]), Tensor(columns["speech_row_BL"]), z_1ZD)
    close(found.asnumpy(), theirs.embed(*rows)[0].asnumpy())


def test_text_alone_is_embedded_by_the_table(model, folder):
    import mindspore as ms
    from mindspore import Tensor

    ids = Tensor([1, 77, 511], ms.int32)
    table = original(folder).decoder.model.embed_tokens.weight.asnumpy()
    assert np.array_equal(model.get_input_embeddings(ids).asnumpy(), table[[1, 77, 511]])


def test_logits_are_those_of_the_original_head(model, folder):
    from mindspore import Tensor

    h_PD = np.random.default_rng(3).standard_normal((5, 48)).astype(np.float32)
    head = original(folder).decoder.lm_head.weight.asnumpy()
    close(model.compute_logits(Tensor(h_PD)).asnumpy(), h_PD @ head.T)


def test_llama_model_is_our_decoder(model, folder):
    """LlamaModel with our description and weights, its Ascend operators in NumPy: biases, heads, angles."""
    import mindspore as ms
    from mindspore import Tensor
    from vllm_mindspore.model_executor.utils import set_model_context

    x_PD = np.random.default_rng(8).standard_normal((37, 48)).astype(np.float32)
    set_model_context("is_prefill", True)
    places, caches = Tensor(np.arange(37), ms.int32), [Tensor(np.zeros(1, np.float32))] * 2
    others = (places, Tensor([[0.0]]), Tensor([37], ms.int32), Tensor([37], ms.int32), places)
    h_PD, _ = model.model(None, places, caches, caches, *others, inputs_embeds=Tensor(x_PD))
    close(model.compute_logits(h_PD).asnumpy(), decoded(folder, x_PD), 1e-4)
