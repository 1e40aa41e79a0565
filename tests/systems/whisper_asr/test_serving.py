"""A Whisper behind OpenAI's API: the official client, the real application, batcher and engine."""

import asyncio

import pytest

openai = pytest.importorskip("openai", reason="needs openai (extra dev)")
httpx = pytest.importorskip("httpx", reason="needs httpx (extra dev)")
pytest.importorskip("fastapi", reason="needs fastapi (extra serve)")

from mindspore_osum.folder import BUNDLED  # noqa: E402
from mindspore_osum.inference.engine import Engine  # noqa: E402
from mindspore_osum.serving.app import create_app  # noqa: E402
from mindspore_osum.serving.batcher import Batcher  # noqa: E402
from mindspore_osum.serving.bodies import Limits  # noqa: E402
from mindspore_osum.serving.metrics import Metrics  # noqa: E402
from mindspore_osum.systems.whisper_asr.vocabulary import names  # noqa: E402
from tests.serving.client import messages  # noqa: E402

RECORDING = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[0]
SEGMENT = {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio"}
SEGMENT |= {"no_speech_prob"}  # as OpenAI documents it


@pytest.fixture(scope="module")
def batcher(small):
    """A model of random weights; its answers are noise, and short here."""
    made = Batcher(lambda enter: Engine(small), Metrics(), batch_size=2, wait_s=0.2)
    made.loaded.result(120)
    yield made
    made.stop()


def asked(batcher, *calls):
    """What the client gets for each of `calls`, coroutines of a client, at once."""

    async def run():
        transport = httpx.ASGITransport(
            create_app(batcher, batcher.metrics, ["model", "whisper-1"], Limits(max_new_tokens=12))
        )
        http = httpx.AsyncClient(transport=transport, timeout=120)
        client = openai.AsyncOpenAI(base_url="http://x/v1", api_key="none", max_retries=0, http_client=http)
        return await asyncio.gather(*(call(client) for call in calls))

    return asyncio.run(run())


def audio(what: str, **fields):
    """A call of the client about the recording."""
    file = (RECORDING.name, RECORDING.read_bytes())
    return lambda client: getattr(client.audio, what).create(model="whisper-1", file=file, **fields)


def test_verbose_json_as_openai_documents_it(batcher):
    fields = {"response_format": "verbose_json", "temperature": 0.7, "prompt": "Ann", "language": "de"}
    (found,) = asked(batcher, audio("transcriptions", **fields))
    assert (found.language, found.task) == ("german", "transcribe") and found.duration > 0
    assert found.segments and all(set(segment.to_dict()) >= SEGMENT for segment in found.segments)
    engine = batcher.engine
    for n, segment in enumerate(found.segments):
        assert segment.id == n and 0 <= segment.start <= segment.end <= found.duration
        assert engine.tokenizer.decode(segment.tokens) == segment.text
        assert segment.temperature == 0.7 and segment.avg_logprob < 0 and 0 <= segment.no_speech_prob <= 1


def test_the_language_is_detected_and_named(batcher):
    (found,) = asked(batcher, audio("transcriptions", response_format="verbose_json"))
    assert found.language in names().values()
    assert not [line for line in found.warnings if "language" in line]


def test_formats_share_a_batch(batcher):
    """What every answer has needs no batch of its own: plain text, subtitles and verbose JSON together."""
    before = batches(batcher)
    formats = ("verbose_json", "json")
    found = asked(batcher, *(audio("transcriptions", response_format=name) for name in formats))
    assert batches(batcher) == before + 1
    assert found[0].text is not None and found[1].text is not None


def test_words_have_times(batcher):
    call = audio(
        "transcriptions", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    (found,) = asked(batcher, call)
    assert found.words and found.segments
    assert all(0 <= word.start <= word.end <= found.duration for word in found.words)
    assert "".join(word.word for word in found.words).replace(" ", "") == found.text.replace(" ", "")


def batches(batcher) -> float:
    lines = batcher.metrics.text().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("osum_batches_total"))


def test_translations(batcher):
    found = asked(
        batcher,
        audio("translations", response_format="verbose_json"),
        audio("translations", response_format="srt"),
    )
    assert (found[0].language, found[0].task) == ("english", "translate") and found[0].segments
    assert " --> " in found[1]


def test_streamed(batcher):
    async def stream(client):
        pieces = await audio("transcriptions", stream=True, language="en")(client)
        return [event async for event in pieces]

    (events,) = asked(batcher, stream)
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (audio("transcriptions", language="xx"), "language 'xx' is unknown"),
        (audio("translations", temperature=3), "temperature: must be at most 2"),
        (audio("transcriptions", extra_body={"hotwords": "<|en|>"}), "hotwords: hotword '<|en|>'"),
        (
            lambda client: client.chat.completions.create(
                model="model", messages=messages(RECORDING.read_bytes(), "who?")
            ),
            "a request in words: a Whisper writes what is said",
        ),
        (
            lambda client: client.chat.completions.create(
                model="model", messages=[{"role": "user", "content": "hi"}]
            ),
            "a Whisper writes what is said",
        ),
    ],
    ids=["language", "temperature", "prompt", "chat", "chat in words"],
)
def test_refused_in_a_line(batcher, call, message):
    with pytest.raises(openai.BadRequestError) as refused:
        asked(batcher, call)
    said = refused.value.body["message"]
    assert message in said and "\n" not in said
