"""`osum serve` as clients see it: the official client against a process with the bundled model.

What the model hears is not the matter here, only that every form carries the same answer.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile

from tests.serving.client import WORDS, audio_part, encoded, messages, repeated, serving
from tests.speech import encode
from tests.speech.voices import RECORDINGS

openai = pytest.importorskip("openai", reason="needs openai (extra dev)")
httpx = pytest.importorskip("httpx", reason="needs httpx (extra dev)")

# of lengths that share their static shapes
SHORT, OTHER = sorted(RECORDINGS, key=lambda path: abs(soundfile.info(path).duration - 1.9))[:2]
WAV = SHORT.read_bytes()
SECONDS = soundfile.info(SHORT).duration
CHUNK_SECONDS, ROWS, SENTENCES = 4, 2, 12


@pytest.fixture(scope="module")
def server():
    """Two rows a batch, and time for both to come; compiled for both."""
    args = ["--batch-size", ROWS, "--wait", 200, "--max-new-tokens", 48, "--max-seconds", CHUNK_SECONDS]
    with serving(*args, "--max-audio", 120, "--warm-up", f"{SECONDS:.2f}") as server:
        server.graphs = server.numbers()["osum_compiled_graphs",]
        yield server


@pytest.fixture(scope="module")
def client(server):
    return server.openai()


@pytest.fixture(scope="module")
def chat(client):
    """chat(messages, **settings) -> completion."""
    return lambda messages, **more: client.chat.completions.create(model="tiny", messages=messages, **more)


@pytest.fixture(scope="module")
def transcribe(client):
    """transcribe(bytes, **settings) -> transcription."""
    return lambda data, **more: client.audio.transcriptions.create(model="tiny", file=("a.wav", data), **more)


@pytest.fixture(scope="module")
def talk():
    """Some twenty seconds or more."""
    return repeated(SHORT, SENTENCES)


def test_warm_up(server, transcribe):
    """Three graphs for each size of a batch, and none is left to compile for recordings of this length."""
    assert server.graphs == 3 * ROWS
    before = server.numbers()["osum_compile_seconds_total",]
    transcribe(WAV, response_format="verbose_json")
    assert server.numbers()["osum_compile_seconds_total",] == before


def test_models_and_health(server, client):
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("tiny", "model")
    assert client.models.retrieve("tiny").id == "tiny"
    assert httpx.get(f"{server.root}/health").json() == {"status": "ready"}


def test_formats_of_a_transcription(transcribe):
    """json and text carry the transcript; the others the answer to srwt, as a standard parser reads it."""
    srt = pytest.importorskip("srt", reason="needs srt (extra dev)")
    webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py (extra dev)")
    plain = transcribe(WAV)
    assert plain.text and plain.usage.type == "duration" and plain.usage.seconds == -(-SECONDS // 1)
    assert transcribe(WAV, response_format="text") == plain.text + "\n"

    both = ["word", "segment"]
    verbose = transcribe(WAV, response_format="verbose_json", language="en", timestamp_granularities=both)
    assert (verbose.language, verbose.duration) == ("en", pytest.approx(SECONDS, abs=0.01))
    (segment,) = verbose.segments
    assert (segment.start, segment.end) == (0, pytest.approx(SECONDS, abs=0.01))
    assert segment.text == verbose.text and segment.avg_logprob <= 0
    for word in verbose.words:
        assert word.word and 0 <= word.start <= word.end <= SECONDS

    lines = list(srt.parse(transcribe(WAV, response_format="srt")))
    captions = webvtt.from_string(transcribe(WAV, response_format="vtt")).captions
    starts = [srt.srt_timestamp_to_timedelta(caption.start.replace(".", ",")) for caption in captions]
    assert [line.start for line in lines] == starts
    shown = "".join(word.word for word in verbose.words) or verbose.text
    assert "".join("".join(line.content for line in lines).split()) == "".join(shown.split())


def test_words_only_where_they_are_asked_for(transcribe):
    words = transcribe(WAV, response_format="verbose_json", timestamp_granularities=["word"])
    assert words.segments is None and words.words is not None
    assert transcribe(WAV, response_format="verbose_json").words is None


def test_chat_whole_and_in_pieces(chat):
    """The pieces joined are the content; the end says why it ended and what the answer is, taken apart."""
    whole = chat(messages(WAV))
    (choice,) = whole.choices
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert whole.osum["segments"][0]["raw"] == choice.message.content
    assert whole.osum["seconds"] == pytest.approx(SECONDS, abs=0.01)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert 0 < whole.usage.prompt_tokens_details.audio_tokens < whole.usage.prompt_tokens

    *pieces, end, usage = chat(messages(WAV), stream=True, stream_options={"include_usage": True})
    texts = [piece.choices[0].delta.content for piece in pieces]
    assert pieces[0].choices[0].delta.role == "assistant" and len(texts) > 2
    assert "".join(texts) == choice.message.content
    assert end.choices[0].finish_reason == choice.finish_reason and end.osum == whole.osum
    assert usage.choices == [] and usage.usage == whole.usage
    assert len({piece.id for piece in [*pieces, end, usage]}) == 1


def test_transcription_in_pieces(transcribe):
    """The same text as at once."""
    *deltas, done = transcribe(WAV, stream=True)
    assert done.type == "transcript.text.done" and done.text == transcribe(WAV).text
    assert done.text.startswith("".join(event.delta for event in deltas))


def test_limit_of_tokens(chat):
    """A shorter limit cuts the same answer, streamed or not; both of the API's names for it count."""
    whole = chat(messages(WAV)).choices[0].message.content
    cut = chat(messages(WAV), max_completion_tokens=1)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens <= 1
    text = cut.choices[0].message.content
    assert text != whole and whole.startswith(text)
    *_, end = chat(messages(WAV), max_tokens=1, stream=True)
    assert end.choices[0].finish_reason == "length" and end.osum["cut"]


def test_kinds_of_audio(chat):
    """An mp3, a flac in stereo, a webm, a recording alone, and words alone."""
    wave_N, rate = soundfile.read(SHORT, dtype="float32")
    mp3, flac = encoded(wave_N, rate, "MP3"), encoded(wave_N.repeat(2).reshape(-1, 2), rate, "FLAC")
    webm = encode.encoded(wave_N, "webm")  # as browsers record
    for data, format in ((mp3, "mp3"), (flac, "flac"), (webm, "webm")):
        answer = chat(messages(data, format=format))
        assert answer.osum["seconds"] == pytest.approx(SECONDS, abs=0.2)
    alone = chat(messages(WAV, words=None), max_tokens=8)  # spoken chat
    usage = alone.usage
    assert alone.osum["segments"] and usage.prompt_tokens == usage.prompt_tokens_details.audio_tokens
    words = chat([{"role": "user", "content": "你好"}], max_tokens=8)
    assert words.osum["answer"] == words.choices[0].message.content.strip()
    assert words.usage.prompt_tokens_details.audio_tokens == 0


def test_draws_repeat_with_their_seed(chat):
    def content(seed):
        how = {"temperature": 2.0, "max_tokens": 12, "extra_body": {"top_k": 50}}
        return chat(messages(WAV), seed=seed, **how).choices[0].message.content

    assert content(1) == content(1) != content(2)


def test_requests_share_batches(server, chat):
    """What is asked at once is computed together, and no answer depends on its neighbours."""
    requests = [(path.read_bytes(), words) for path in (SHORT, OTHER) for words in (WORDS, "<asr>")]
    alone = [chat(messages(*request)).choices[0].message.content for request in requests]
    before = server.numbers()
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda r: chat(messages(*r)).choices[0].message.content, requests))
    after = server.numbers()
    assert together == alone
    assert after["osum_batch_rows_total",] - before["osum_batch_rows_total",] == len(requests)
    assert after["osum_batches_total",] - before["osum_batches_total",] < len(requests)


def test_long_recordings(server, transcribe, talk):
    """Cut at pauses, times of the whole; meanwhile a short one is not kept waiting."""
    chunks_before, done = server.numbers()["osum_batch_rows_total",], {}

    def ask(name, data, **settings):
        done[name] = transcribe(data, **settings), time.monotonic()

    long = threading.Thread(target=ask, args=("long", talk), kwargs={"response_format": "verbose_json"})
    long.start()
    while server.numbers()["osum_batch_rows_total",] == chunks_before:
        time.sleep(0.02)
    ask("short", WAV)
    long.join()
    answer, when = done["long"]
    assert len(answer.segments) >= SENTENCES // 2 and answer.duration > 20
    for segment in answer.segments:
        assert segment.end - segment.start <= CHUNK_SECONDS
    starts = [segment.start for segment in answer.segments]
    assert starts == sorted(starts) and starts[-1] > 15
    assert done["short"][1] < when


def test_a_client_that_goes_away_is_not_worked_for(server, chat, talk):
    before = server.numbers()["osum_batch_rows_total",]
    stream = chat(messages(talk), stream=True)
    next(piece for piece in stream if piece.choices[0].delta.content)
    stream.close()
    until = time.monotonic() + 30
    while server.numbers()["osum_requests_in_progress",] and time.monotonic() < until:
        time.sleep(0.05)
    assert server.numbers()["osum_requests_in_progress",] == 0
    assert server.numbers()["osum_batch_rows_total",] - before < SENTENCES // 2


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"max_tokenz": 3}, "max_tokenz", "not a field"),
        ({"n": 2}, "n", "give 1"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"temperature": -1}, "temperature", "greedy"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role", "is the user's"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages.0.role", "it is empty"),
        ({"messages": [{"role": "user", "content": [audio_part(WAV)] * 2}]}, "messages", "2 recordings"),
        ({"messages": messages(b"not audio")}, None, "not audio that can be read"),
        ({"messages": messages(b"not audio"), "stream": True}, None, "not audio that can be read"),
        ({"messages": messages(encoded([[0.0]] * 16_000 * 130))}, None, "at most 120 s"),
        ({"messages": messages(WAV, "x " * 2000)}, None, "leaves none for the answer"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}],
                    }
                ]
            },
            "messages.0.content.0.input_audio.data",
            "base64",
        ),
    ],
)
def test_refused_chats(server, change, param, says):
    """400 in OpenAI's form, with the field's name and how to mend it."""
    body = {"model": "tiny", "messages": messages(WAV)} | change
    answer = httpx.post(f"{server.url}/chat/completions", json=body, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert says in error["message"] and "\n" not in error["message"]


def test_refused_transcriptions(transcribe, client):
    for name, value in (("prompt", "<x>"), ("response_format", "pdf")):
        with pytest.raises(openai.BadRequestError) as caught:
            transcribe(WAV, **{name: value})
        assert caught.value.param == name
    with pytest.raises(openai.BadRequestError, match="not audio that can be read"):
        transcribe(b"RIFF")
    with pytest.raises(openai.NotFoundError, match="did you mean 'tiny'"):
        client.audio.transcriptions.create(model="tinny", file=("a.wav", WAV))


def test_refused_bodies(server):
    transcriptions = f"{server.url}/audio/transcriptions"
    for answer, status, says in (
        (httpx.post(f"{server.url}/chat/completions", content=b"{"), 400, "not JSON"),
        (httpx.post(f"{server.url}/chat/completions", content=b"[" * 100_000), 400, "not JSON"),
        (httpx.post(transcriptions, data={"model": "tiny"}), 400, "multipart/form-data"),
        (httpx.post(transcriptions, files={"voice": WAV}), 400, "file"),
        (httpx.get(f"{server.url}/audio/transcriptions"), 405, "Method Not Allowed"),
        (httpx.get(f"{server.root}/nothing"), 404, "known are /v1/audio/transcriptions"),
    ):
        assert answer.status_code == status and says in answer.json()["error"]["message"]
    assert server.numbers()["osum_http_requests_total", "other", "404"] >= 1
