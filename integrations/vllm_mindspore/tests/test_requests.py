"""Descriptions, prompts and answers of an exported folder, as our own engine has them; no vLLM is needed."""

import json

import numpy as np
import pytest
from osum_vllm.config import OsumConfig
from osum_vllm.requests import Requests
from osum_vllm.tokenizer import OsumTokenizer

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, read_config
from mindspore_osum.inference.request import make_request
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.text.tokenizer import open_tokenizer

RECORDING = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[0]


@pytest.fixture(scope="module")
def tokenizer(exported):
    files = {name: str(exported / file) for name, file in OsumTokenizer.vocab_files_names.items()}
    return OsumTokenizer(**files)


def test_the_description_is_ours(folder, exported):
    config = OsumConfig(**json.loads((exported / "config.json").read_text()))
    found, expected = config.model, read_config(folder)
    assert (found.encoder, found.adapter, found.decoder) == (
        expected.encoder,
        expected.adapter,
        expected.decoder,
    )
    assert (found.prompts, found.speech_token_num) == (expected.prompts, expected.speech_token_num)
    assert config.get_text_config() is config  # vLLM looks for heads and layers there
    assert OsumConfig(**config.to_dict()).model == found


@pytest.mark.parametrize(
    "asked", [{"task": "asr"}, {"instruction": "Who [unused9] is it?"}, {"task": "sttc"}]
)
def test_prompts_are_those_of_our_engine(exported, asked):
    requests = Requests(exported)
    found = requests.prompt(RECORDING, **asked)
    prompt = SYSTEM.prompts(requests.cfg, requests.tokenizer).prompt(make_request(**asked), speech=7)
    # the processor replaces the one id by begin, 7 tokens and end
    at = found.inputs["prompt_token_ids"].index(requests.config.audio_token_id)
    ids = found.inputs["prompt_token_ids"]
    assert ids[:at] + [-2, *[-1] * 7, -3] + ids[at + 1 :] == prompt.sequence.ids_L.tolist()
    assert found.opening == prompt.opening
    assert np.asarray(found.inputs["multi_modal_data"]["audio"]).ndim == 1


def test_answers_are_read_with_their_opening(exported):
    requests = Requests(exported)
    asked = requests.prompt(RECORDING, task="asr")
    words = requests.tokenizer.encode("hello world")
    assert asked.opening
    assert "hello world" in requests.answer(asked, words).text


def test_requests_without_a_form_are_refused(exported):
    with pytest.raises(UserError):
        Requests(exported).prompt(RECORDING, task="no such task")


def test_the_tokenizer_is_ours(exported, tokenizer):
    ours, text = open_tokenizer(exported), "hello [unused9] world <ADULT> 你好"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == tokenizer(text)["input_ids"] == ours.encode(text)
    assert tokenizer.decode(ids) == ours.decode(ids, skip_special=False)
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) == ours.decode(
        ids, skip_special=False
    )
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id) == (ours.eos_id, ours.bos_id)


def test_a_recording_is_one_id_beyond_the_vocabulary(exported, tokenizer):
    vocabulary = json.loads((exported / "config.json").read_text())["vocab_size"]
    ids = tokenizer.encode("\ue000a<|audio|>\ue001b", add_special_tokens=False)
    assert ids.count(vocabulary) == 1 and tokenizer.get_vocab()["<|audio|>"] == vocabulary
    assert tokenizer.decode(ids) == tokenizer.decode([i for i in ids if i != vocabulary])
    # every id of the model has a token
    assert all(tokenizer.convert_ids_to_tokens(list(range(vocabulary + 1))))


def test_a_folder_of_another_kind_has_no_such_tokenizer(folder):
    with pytest.raises(ValueError, match="not written by `osum export --format vllm`"):
        OsumTokenizer(str(folder / "tokenizer.model"), str(folder / "config.json"))
