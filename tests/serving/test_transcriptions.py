"""The form of a transcription."""

import pytest

pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.serving.bodies import ApiError  # noqa: E402
from mindspore_osum.serving.transcriptions import read_form  # noqa: E402


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ([("model", "a"), ("model", "tiny")], "model"),
        ([("timestamp_granularities", "word"), ("timestamp_granularities[]", "word")], None),
        ([("timestamp_granularities[]", "word"), ("timestamp_granularities", "word")], None),
    ],
)
def test_fields_given_more_than_once(fields, name):
    with pytest.raises(ApiError, match="given more than once") as caught:
        read_form([*fields, ("language", "en")])
    assert (caught.value.status, caught.value.param) == (400, name or "timestamp_granularities")


def test_a_list_is_several_fields():
    fields = [("timestamp_granularities[]", name) for name in ("word", "segment")]
    form = read_form([("model", "tiny"), ("response_format", "verbose_json"), *fields])
    assert form.timestamp_granularities == ["word", "segment"]
    alone = [
        ("timestamp_granularities", "word"),
        ("keywords", "Beijing"),
        ("response_format", "verbose_json"),
    ]
    form = read_form([("model", "tiny"), *alone])  # without the brackets it is one
    assert (form.timestamp_granularities, form.keywords) == (["word"], ["Beijing"])


@pytest.mark.parametrize(
    "field",
    [
        ("stream", "false"),
        ("stream", "False"),
        ("prompt", ""),
        ("language", ""),
        ("temperature", "0"),
        ("chunking_strategy", "auto"),
        ("timestamp_granularities[]", "segment"),
    ],
)
def test_fields_that_ask_for_nothing_are_taken(field):
    assert read_form([("model", "tiny"), field]) == read_form([("model", "tiny")])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": "word", "response_format": "srt"}, "timestamp_granularities"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"stream": "perhaps"}, "stream"),
        ({"language": "en; zh"}, "language"),
        ({"include[]": "logprobs"}, "include"),
        ({"chunking_strategy": '{"type": "server_vad"}'}, "chunking_strategy"),
        ({"langage": "en"}, "langage"),
        ({"timestamp_granularities": "words"}, "timestamp_granularities.0"),
    ],
)
def test_fields_that_are_not_honoured_are_refused(fields, param):
    with pytest.raises(ApiError) as caught:
        read_form([("model", "tiny"), *fields.items()])
    assert (caught.value.status, caught.value.param) == (400, param)
    assert str(caught.value).startswith(f"{param}: ") and "\n" not in str(caught.value)


def test_words_with_times_where_they_have_a_field():
    fields = [("model", "tiny"), ("response_format", "verbose_json"), ("timestamp_granularities[]", "word")]
    assert read_form(fields).timestamp_granularities == ["word"]


def test_words_that_may_be_said():
    """By the names of OpenAI and of others, in the request."""
    for fields in ([("prompt", "Beijing, Shanghai")], [("hotwords", "Beijing，Shanghai")]):
        assert read_form([("model", "tiny"), *fields]).job(b"", 9).request.hotwords == ("Beijing", "Shanghai")
    fields = [("model", "tiny"), ("keywords[]", "Beijing"), ("keywords[]", "Xi'an")]
    assert read_form(fields).job(b"", 9).request.hotwords == ("Beijing", "Xi'an")
    with pytest.raises(ApiError, match="^prompt: hotword '<x>': ") as caught:
        read_form([("model", "tiny"), ("prompt", "<x>")]).job(b"", 9)
    assert (caught.value.status, caught.value.param) == (400, "prompt")
