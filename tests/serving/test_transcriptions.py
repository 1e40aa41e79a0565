"""The form of a transcription."""

import pytest

pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.serving.bodies import ApiError  # noqa: E402
from mindspore_osum.serving.transcriptions import TranslationForm, read_form  # noqa: E402
from tests.serving.common import engine  # noqa: E402

ENGINE = engine("tiny")


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
        assert read_form([("model", "tiny"), *fields]).job(b"", 9, ENGINE).request.hotwords == (
            "Beijing",
            "Shanghai",
        )
    fields = [("model", "tiny"), ("keywords[]", "Beijing"), ("keywords[]", "Xi'an")]
    assert read_form(fields).job(b"", 9, ENGINE).request.hotwords == ("Beijing", "Xi'an")
    with pytest.raises(ApiError, match="^prompt: hotword '<x>': ") as caught:
        read_form([("model", "tiny"), ("prompt", "<x>")]).job(b"", 9, ENGINE)
    assert (caught.value.status, caught.value.param) == (400, "prompt")


def test_what_a_model_takes_is_asked_of_it():
    """A language, and a translation; to others a language is echoed with a warning."""
    fields = [("model", "tiny"), ("language", "de"), ("response_format", "verbose_json"), ("prompt", "a, b")]
    form, whisper = read_form(fields), engine("whisper_base")
    job = form.job(b"", 9, whisper)
    assert (job.request.language, job.request.prompt, job.request.hotwords) == ("de", "a, b", ())
    assert not job.sampling.confidence and not job.request.word_times and not form.warnings(None, whisper)
    job = form.job(b"", 9, ENGINE)
    assert (job.request.language, job.request.hotwords) == ("", ("a", "b")) and job.sampling.confidence
    assert form.warnings(None, ENGINE) == [
        "language de: had no effect, the model detects the language by itself"
    ]
    job = read_form([("model", "tiny")], TranslationForm).job(b"", 9, whisper)
    assert job.request.translate and job.request.task == "<TRANSCRIBE>"


@pytest.mark.parametrize(
    ("name", "kind", "fields", "param", "message"),
    [
        ("whisper_base", None, {"language": "germna"}, "language", "did you mean 'german'"),
        ("whisper_base_en", None, {"language": "de"}, "language", "this Whisper knows English only"),
        ("whisper_base_en", TranslationForm, {}, None, "this Whisper knows English only"),
        ("whisper_base", TranslationForm, {"language": "de"}, "language", "not a field of this server"),
        ("whisper_base", TranslationForm, {"stream": "true"}, "stream", "not a field of this server"),
    ],
)
def test_what_a_whisper_is_not_asked(name, kind, fields, param, message):
    with pytest.raises(ApiError, match=message) as caught:
        form = read_form([("model", "tiny"), *fields.items()], *([kind] if kind else []))
        form.job(b"", 9, engine(name))
    assert (caught.value.status, caught.value.param) == (400, param) and "\n" not in str(caught.value)
