"""What a chat may ask for."""

import pytest

from tests.serving.client import audio_part, messages

pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.inference.conversation import Exchange  # noqa: E402
from mindspore_osum.inference.request import Request  # noqa: E402
from mindspore_osum.serving.bodies import ApiError  # noqa: E402
from mindspore_osum.serving.chats import ChatRequest  # noqa: E402
from mindspore_osum.serving.fields import read_model  # noqa: E402
from mindspore_osum.tasks import TEXT2TEXT  # noqa: E402

SOUND = audio_part(b"x")


def job(messages: list, **more):
    return read_model(ChatRequest, {"model": "tiny", "messages": messages} | more).job(400)


def user(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    "field",
    [
        {name: None}
        for name in (
            "stop",
            "tools",
            "tool_choice",
            "top_logprobs",
            "response_format",
            "n",
            "seed",
            "reasoning",
        )
    ]
    + [
        {"logprobs": False},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"tool_choice": "none"},
        {"parallel_tool_calls": True},
        {"stop": []},
        {"n": 1},
        {"frequency_penalty": 0.0},
        {"modalities": ["text"]},
        {"logit_bias": {}},
        {"stream": False, "stream_options": None},
        {"user": "a", "metadata": {"a": "b"}, "store": False, "prompt_cache_key": "k"},
    ],
    ids=str,
)
def test_fields_that_ask_for_nothing_are_taken(field):
    asked, plain = job(messages(b"x"), **field), job(messages(b"x"))
    assert (asked.audio, asked.request, asked.sampling) == (plain.audio, plain.request, plain.sampling)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", ["."]),
        ("tools", [{"type": "function"}]),
        ("logprobs", True),
        ("response_format", {"type": "json_object"}),
        ("n", 2),
        ("presence_penalty", 0.5),
        ("max_tokenz", 3),
    ],
)
def test_fields_that_are_not_honoured_are_refused_by_name(field, value):
    with pytest.raises(ApiError, match=f"^{field}: not ") as caught:
        job(messages(b"x"), **{field: value})
    assert (caught.value.status, caught.value.param) == (400, field)


@pytest.mark.parametrize("format", ["wav", "mp3", "webm", "m4a"])
def test_a_format_is_a_name_and_decides_nothing(format):
    assert job(user(audio_part(b"x", format))).audio == b"x"


@pytest.mark.parametrize(
    ("said", "param", "says"),
    [
        (user(audio_part(b"x", "pdf")), "messages.0.content.0.input_audio.format", "wav, flac"),
        (
            user({"type": "audio_url", "audio_url": {"url": "x"}}),
            "messages.0.content.0",
            "audio_url: addresses are not fetched; send the recording itself as input_audio",
        ),
        (user(SOUND, {"type": "text"}), "messages.0.content.1", "has the field text"),
        (
            user({"type": "text", "text": "a", **SOUND | {"type": "text"}}),
            "messages.0.content.0",
            "has the field",
        ),
        (user(SOUND | {"voice": 1}), "messages.0.content.0.voice", "not a field"),
        (
            user({"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}),
            "messages.0.content.0.input_audio.data",
            "base64",
        ),
        ([*user(SOUND), {"role": "developer", "content": "x"}], "messages.1.role", "before all other"),
        ([*user(SOUND), {"role": "assistant", "content": "x"}, *user(SOUND)], "messages", "2 recordings"),
        ([*user(SOUND), *user(SOUND)], "messages.1.role", "twice in a row"),
        ([*user(SOUND), {"role": "assistant", "content": "x"}], "messages.1.role", "the last message is"),
        ([{"role": "tool", "content": "x"}], "messages.0.role", "'user'"),
        ([{"role": "user"}], "messages.0.role", "it is empty"),
        (user(SOUND, SOUND), "messages", "2 recordings"),
        (user(*[{"type": "text", "text": "x" * 20_000}] * 11), "messages", "characters, at most 200000"),
        ([{"role": "user", "content": 5}], "messages.0.content", "list"),
        ([], "messages", "at least 1"),
    ],
)
def test_messages_that_are_not_answered(said, param, says):
    """The message is about the field that is wrong, and nothing that was said is dropped."""
    with pytest.raises(ApiError) as caught:
        job(said)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert says in str(caught.value) and str(caught.value).startswith(param) or param == "messages"


def test_temperatures_are_those_of_the_api():
    assert job(messages(b"x"), temperature=2).sampling.temperature == 2
    with pytest.raises(ApiError, match="temperature: must be at most 2") as caught:
        job(messages(b"x"), temperature=2.5)
    assert caught.value.param == "temperature"


def test_an_empty_system_message_says_nothing():
    assert job([{"role": "system", "content": " "}, *messages(b"x")]).request == job(messages(b"x")).request
    assert job([{"role": "user", "content": "你好", "name": None}]).request.words == "你好"


def test_what_was_said_before():
    """A system message, earlier turns, and the one recording wherever it is."""
    system, answer = (
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "<asr>a man"},
    )
    last = {"role": "user", "content": "how old"}
    asked = job([system, *user(SOUND, {"type": "text", "text": "who?"}), answer, last])
    assert asked.audio == b"x" and asked.request == Request(
        "how old",
        "text2text",
        None,
        system="Be brief.",
        history=(Exchange("text", "who?", "<asr>a man"),),
    )
    asked = job([last, answer, *user(SOUND)])
    assert asked.audio == b"x" and asked.request.output_type == "s2t_chat" and asked.request.system is None
    assert asked.request.history == (Exchange("text2text", "how old", "<asr>a man"),)
    words = job([last, answer, last])
    assert words.audio is None and words.request.task == TEXT2TEXT


def test_words_that_may_be_said():
    """They are for recordings."""
    assert job(messages(b"x"), hotwords=["Beijing"]).request.hotwords == ("Beijing",)
    assert job(messages(b"x", None), hotwords="Xi'an, Beijing").request.hotwords == ("Xi'an", "Beijing")
    with pytest.raises(ApiError, match="hotwords: they are for recordings"):
        job([{"role": "user", "content": "hello"}], hotwords="Beijing")
