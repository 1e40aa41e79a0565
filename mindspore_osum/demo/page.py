"""The page itself, in gradio; the model answers one request at a time, in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import gradio as gr

from mindspore_osum.demo.views import labels_html, mel_picture, words_html
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response
from mindspore_osum.speech.audio import duration_seconds, load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.tasks import TASKS

ALL, WORDS = "all", "words"  # choices beside the eight tasks
REQUEST_CHARS = 500
WAITING = 8  # requests that may wait; further ones are refused with a message
KEPT_SECONDS = 3600  # recordings are deleted after that, and when the page's process ends
FONTS = ("system-ui", "sans-serif")  # no font is fetched from anywhere


@dataclass(frozen=True)
class Limits:
    """What one request may be."""

    seconds: float  # of the recording
    max_seconds: float  # longer recordings are split at pauses
    new_tokens: int


class Listener:
    """A model owned by one thread, with the page's queries."""

    def __init__(self, load: Callable, limits: Limits):
        self.limits, self.owner = limits, ThreadPoolExecutor(1)
        self.model = self.owner.submit(load).result()

    def listen(self, audio: str | None, choice: str, words: str):
        """(transcript, words to play, labels, log-mel picture, everything as plain values)."""
        try:
            response, picture = self.owner.submit(self._answer, audio, choice, words or "").result()
        except UserError as error:
            raise gr.Error(str(error).replace(f"{audio}: ", ""), print_exception=False) from None
        text = response.text if response.answer is None else f"{response.text}\n\nreply: {response.answer}"
        url = "/gradio_api/file=" + quote(audio)
        values = response.to_dict() | {"audio": Path(audio).name}
        return text.strip(), words_html(response, url), labels_html(response), picture, values

    def _answer(self, audio: str | None, choice: str, words: str) -> tuple[Response, object]:
        if not audio:
            raise UserError("no recording: record one, drop a file, or take an example")
        if len(words) > REQUEST_CHARS:
            raise UserError(f"a request of {len(words)} characters: this page takes {REQUEST_CHARS}")
        if choice not in (*TASKS, ALL, WORDS):
            raise UserError(f"task {choice!r}: take one of {', '.join((*TASKS, ALL, WORDS))}")
        seconds = duration_seconds(audio)
        if seconds > self.limits.seconds:
            raise UserError(f"{seconds:.0f} s of sound: this page takes {self.limits.seconds:g} s")
        how = {
            "sampling": Sampling(max_new_tokens=self.limits.new_tokens),
            "probabilities": True,
            "max_seconds": self.limits.max_seconds,
        }
        if choice == ALL:
            response = self.model.annotate(audio, **how)
        elif choice == WORDS:
            response = self.model(audio, words, **how)
        else:
            response = self.model(audio, task=choice, **how)
        unpadded = replace(self.model.engine.cfg.features, pad_to_seconds=0.0)
        return response, mel_picture(log_mel(load_audio(audio), unpadded))


def build(listener: Listener, name: str) -> gr.Blocks:
    """The page; `name` is the model's."""
    choices = [(f"{task.name} ({abbr})", abbr) for abbr, task in TASKS.items()]
    choices += [("all eight tasks", ALL), ("what I write below", WORDS)]
    with gr.Blocks(title=f"OSUM: {name}", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        gr.Markdown(f"# OSUM: {name}\nRecord or drop a recording, choose a task or write a request.")
        with gr.Row():
            with gr.Column():
                sound = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="recording",
                    elem_id="osum-audio",
                    editable=False,
                    buttons=["download"],
                )
                choice = gr.Dropdown(choices, value="asr", label="task", elem_id="osum-task")
                words = gr.Textbox(
                    label="request in your own words",
                    elem_id="osum-request",
                    max_length=REQUEST_CHARS,
                    placeholder="谁在说话，多大年纪？ / What does the speaker say?",
                )
                button = gr.Button("Listen", variant="primary", elem_id="osum-listen")
                examples = sorted(map(str, (BUNDLED.parent / "recordings").glob("*.wav")))[:4]
                gr.Examples(examples, sound, label="bundled recordings", elem_id="osum-examples")
            with gr.Column():
                text = gr.Textbox(label="transcript", elem_id="osum-text", lines=2, interactive=False)
                gr.Markdown("**words** (click to hear)")
                played = gr.HTML(elem_id="osum-words")
                gr.Markdown("**labels**")
                labels = gr.HTML(elem_id="osum-labels")
                gr.Markdown("**log-mel** (time to the right, 0-8 kHz upwards)")
                picture = gr.Image(
                    show_label=False,
                    elem_id="osum-mel",
                    format="png",
                    interactive=False,
                    height=180,
                    buttons=["download", "fullscreen"],
                )
                with gr.Accordion("everything", open=False):
                    values = gr.JSON(elem_id="osum-json")
        # writing a request selects it
        words.input(lambda: WORDS, None, choice, queue=False, api_visibility="private")
        results = [text, played, labels, picture, values]
        gr.on(
            [button.click, words.submit],
            listener.listen,
            [sound, choice, words],
            results,
            api_name="listen",
            concurrency_limit=1,
        )
    return page.queue(max_size=WAITING)


def theme() -> gr.themes.ThemeClass:
    """Plain, with the machine's own fonts."""
    return gr.themes.Default(font=FONTS, font_mono=("monospace",))
