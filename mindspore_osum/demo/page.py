"""The page itself, in gradio: fields, and what happens when they are used.

Notable choices
- Errors, warnings and what is awaited have one place, `#osum-status`; gradio's own overlays are off.
- gradio's translations know labels but not choices, so that the page is written in the browser's language
  when it is loaded.
"""

import traceback
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import gradio as gr

from mindspore_osum.demo.listener import REQUEST_CHARS, Asked, Listener, Stage, bundled
from mindspore_osum.demo.texts import Texts
from mindspore_osum.demo.views import (
    error_html,
    head_html,
    heading_html,
    labels_html,
    status_html,
    transcript,
    waiting_html,
    words_html,
)
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASKS

WAITING = 8  # requests that may wait; further ones are refused with a message
KEPT_SECONDS = 3600  # recordings are deleted after that, and when the page's process ends
FONTS = ("system-ui", "sans-serif")  # no font is fetched from anywhere
QUIET = {"show_progress": "hidden", "api_visibility": "private"}  # of events that only change the page
NOTHING = ("", "", "", None, None)  # transcript, words, labels, picture, everything


def answers(listener: Listener, audio, task, words, hotwords, request: gr.Request):
    """The stages of an answer as the page's fields: status, then those of `NOTHING`."""
    text = _texts(request)
    asked = Asked(audio, task, (words or "").strip(), (hotwords or "").strip())
    shown = None
    try:
        for stage in listener.listen(asked, text):
            *fields, values = _fields(stage, asked, text)
            # once: gradio writes a picture again, to the path that a browser may be reading
            same = stage.picture is not None and stage.picture is shown
            shown = stage.picture
            yield *fields, gr.skip() if same else shown, values
    except UserError as error:
        yield error_html(str(error).replace(f"{audio}: ", ""), text), *NOTHING
    except Exception:
        traceback.print_exc()
        yield error_html(text("internal"), text), *NOTHING


def _fields(stage: Stage, asked: Asked, text: Texts) -> tuple:
    """What `answers` yields but the picture."""
    response = stage.response
    if response is None:
        return waiting_html(stage.doing), "", "", "", None
    missing = [] if stage.doing or response.no_speech else asked.label_fields()
    if stage.doing:
        status = waiting_html(stage.doing)
    else:
        status = status_html(response, asked.name(text), text)
    values = response.to_dict() | {"audio": Path(asked.audio).name}
    words = words_html(response, "/gradio_api/file=" + quote(asked.audio), text)
    labels = labels_html(response, missing, text)
    return status, transcript(response, text), words, labels, values


def _texts(request: gr.Request) -> Texts:
    return Texts(request.headers.get("accept-language"))


def build(listener: Listener, name: str, tasks: Sequence[str] = tuple(TASKS)) -> gr.Blocks:
    """The page; `name` is the model's, and `tasks` are those that it can be asked."""
    text = Texts()
    with gr.Blocks(title=f"OSUM: {name}", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        head = gr.HTML(head_html(name, text))
        with gr.Row():
            with gr.Column():
                sound = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label=text("recording"),
                    elem_id="osum-audio",
                    editable=False,
                    buttons=["download"],
                    # the browser's own player, which the words move, too
                    waveform_options=gr.WaveformOptions(show_recording_waveform=False),
                )
                bundle = gr.Dropdown(bundled(text), value=None, label=text("bundled"), elem_id="osum-bundled")
                task = gr.Dropdown(text.choices(tasks), value="asr", label=text("task"), elem_id="osum-task")
                words = gr.Textbox(
                    "",
                    label=text("request"),
                    elem_id="osum-request",
                    max_length=REQUEST_CHARS,
                    placeholder=text("placeholder"),
                )
                hotwords = gr.Textbox(
                    "", label=text("hotwords"), elem_id="osum-hotwords", max_length=REQUEST_CHARS
                )
                button = gr.Button(text("listen"), variant="primary", size="lg", elem_id="osum-listen")
            with gr.Column():
                status = gr.HTML(elem_id="osum-status")
                told = gr.Textbox(label=text("transcript"), elem_id="osum-text", lines=2, interactive=False)
                played = gr.HTML(elem_id="osum-words")
                labels = gr.HTML(elem_id="osum-labels")
                title = gr.HTML(heading_html(text("picture")))
                picture = gr.Image(
                    show_label=False,
                    elem_id="osum-mel",
                    format="png",
                    interactive=False,
                    height=180,
                    buttons=["download", "fullscreen"],
                )
                with gr.Accordion(text("everything"), open=False) as details:
                    values = gr.JSON(elem_id="osum-json")

        def written(request: gr.Request):
            text = _texts(request)
            return (
                head_html(name, text),
                gr.Audio(label=text("recording")),
                gr.Dropdown(bundled(text), label=text("bundled")),
                gr.Dropdown(text.choices(tasks), label=text("task")),
                gr.Textbox(label=text("request"), placeholder=text("placeholder")),
                gr.Textbox(label=text("hotwords")),
                gr.Button(text("listen")),
                gr.Textbox(label=text("transcript")),
                heading_html(text("picture")),
                gr.Accordion(label=text("everything")),
            )

        results = [status, told, played, labels, picture, values]
        fields = [head, sound, bundle, task, words, hotwords, button, told, title, details]
        page.load(written, None, fields, queue=False, **QUIET)
        bundle.input(lambda path: path, bundle, sound, queue=False, **QUIET)
        gr.on(
            [sound.upload, sound.start_recording, sound.clear],
            lambda: None,
            None,
            bundle,
            queue=False,
            **QUIET,
        )
        sound.change(lambda: ("", *NOTHING), None, results, queue=False, **QUIET)  # of another recording
        task.input(None, None, words, js="() => ''", **QUIET)  # a task that is chosen is meant

        def listen(audio, task, words, hotwords, request: gr.Request):
            yield from answers(listener, audio, task, words, hotwords, request)

        gr.on(
            [button.click, words.submit, hotwords.submit],
            listen,
            [sound, task, words, hotwords],
            results,
            api_name="listen",
            show_progress="hidden",
            concurrency_limit=WAITING,  # they wait for the model's thread, and the page says so
        )
    return page.queue(max_size=WAITING)


def theme() -> gr.themes.ThemeClass:
    """Plain, with the machine's own fonts."""
    return gr.themes.Default(font=FONTS, font_mono=("monospace",))
