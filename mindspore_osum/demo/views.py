"""A response as the page shows it: HTML of words and labels, and the log-mel picture.

Legend: T mel frames, F mel bins, H and W rows and columns of a picture.

Notable choices
- Everything that a model or a person wrote is escaped; the page's own script (`SCRIPT`) is fixed text and
  finds its words by their class.
"""

from collections.abc import Iterable
from html import escape

import numpy as np

from mindspore_osum.demo.texts import Texts
from mindspore_osum.results import Response

WIDTHS, ROWS_A_BIN = (600, 1600), 3  # least and most columns of the picture; its rows for each mel bin
LEAST = 0.01  # probability of a label that is shown
# from quiet to loud: dark blue, violet, red, orange, pale yellow
COLOURS = np.array([[0, 0, 20], [70, 15, 110], [170, 40, 95], [240, 110, 30], [252, 240, 180]], float)

STYLE = """
#osum-status:empty { display: none }
.osum-error, .osum-warning { padding: 8px 12px; border-radius: 6px; margin: 4px 0; overflow-wrap: anywhere }
.osum-error { background: #f4cccc; color: #600 }
.osum-warning { background: #fff2cc; color: #430 }
.osum-asked { overflow-wrap: anywhere; opacity: 0.8 }
.osum-waiting::before { content: ""; display: inline-block; width: 1em; height: 1em; margin-right: 8px;
  border: 3px solid #3d85c6; border-top-color: transparent; border-radius: 50%; vertical-align: middle;
  animation: osum-turn 1s linear infinite }
@keyframes osum-turn { to { transform: rotate(360deg) } }
.osum-word { cursor: pointer; padding: 2px 6px; margin: 1px; border-radius: 4px; font: inherit;
  overflow-wrap: anywhere; text-align: start }
.osum-word:hover { outline: 1px solid }
.osum-word.playing { background: #f6b26b; color: #000 }
.osum-labels tr { border: none; background: none }
.osum-labels td { padding: 2px 8px; border: none; white-space: nowrap }
.osum-labels .bar { background: #3d85c6; height: 0.8em; min-width: 1px }
.osum-labels .chosen { font-weight: bold }
.osum-labels .missing { opacity: 0.7 }
@media (max-width: 640px) {
  #osum-listen { min-height: 56px; font-size: 1.2em }
  #osum-audio [data-testid=source-select] { height: auto }
  #osum-audio [data-testid=source-select] button { width: 44px; height: 44px }
  .osum-word { padding: 8px 10px }
  .osum-labels td { padding: 2px 4px }
}
"""

# - gradio 6.17 gives the browser's player no address at first: that of the link beside it
# - a word plays the recording from its start to its end and is marked meanwhile; the player is that of the
#   recording's field, unless another recording is there by now
SCRIPT = """<script>
new MutationObserver(() => {
  const link = document.querySelector("#osum-audio a[download]");
  const player = document.querySelector("#osum-audio audio.standard-player");
  if (link && player && player.src !== link.href) player.src = link.href;
}).observe(document, {childList: true, subtree: true, attributeFilter: ["href"]});
document.addEventListener("click", (event) => {
  const word = event.target.closest ? event.target.closest(".osum-word") : null;
  if (!word) return;
  const url = new URL(word.parentElement.dataset.audio, location.href).href;
  const players = [...document.querySelectorAll("#osum-audio audio")];
  const sound = players.find((player) => decodeURI(player.src) === decodeURI(url)) || new Audio(url);
  document.querySelectorAll(".osum-word.playing").forEach((other) => other.classList.remove("playing"));
  const end = parseFloat(word.dataset.end);
  sound.ontimeupdate = () => {
    if (sound.currentTime >= end) sound.pause();
  };
  sound.onpause = () => {  // also at the end of the recording, and when a person stops it
    word.classList.remove("playing");
    sound.ontimeupdate = sound.onpause = null;
  };
  sound.currentTime = parseFloat(word.dataset.start);
  word.classList.add("playing");
  sound.play();
});
</script>"""


def head_html(name: str, text: Texts) -> str:
    """The page's heading, with the model's name."""
    return f"<h1>OSUM: {escape(name)}</h1><p>{escape(text('hint'))}</p>"


def heading_html(title: str) -> str:
    """The heading of a part of the answer."""
    return f"<h4>{escape(title)}</h4>"


def waiting_html(doing: str) -> str:
    """What is awaited."""
    return f'<div class="osum-waiting" role="status">{escape(doing)} ...</div>'


def error_html(line: str, text: Texts) -> str:
    """Why there is no answer."""
    return f'<div class="osum-error" role="alert">{escape(text("error", line=line))}</div>'


def status_html(response: Response, asked: str, text: Texts) -> str:
    """What was asked, and what is doubtful about the answer; why it is incomplete if it is."""
    lines = [f'<div class="osum-asked">{escape(text("asked", request=asked))}</div>']
    found = [*([text("no speech")] if response.no_speech else []), *response.warnings]
    if response.cut:
        found.append(text("truncated"))
    if response.error:
        lines.append(error_html(response.error.removeprefix(f"{response.audio}: "), text))
    for line in found:
        lines.append(f'<div class="osum-warning">{escape(text("warning", line=line))}</div>')
    return f'<div class="osum-done" role="status">{"".join(lines)}</div>'


def transcript(response: Response, text: Texts) -> str:
    """The transcript and the reply, as text."""
    reply = "" if response.answer is None else text("reply", reply=response.answer)
    return "\n\n".join(filter(None, [response.text.strip(), reply]))


def words_html(response: Response, url: str, text: Texts) -> str:
    """Words that play the recording at `url` when they are clicked; without their times, whole segments."""
    spans = [(w.start, w.end, w.text) for w in response.words]
    spans = spans or [(s.start, s.end, s.text) for s in response.segments if s.text]
    words = "".join(
        f'<button type="button" class="osum-word" data-start="{start:.3f}" data-end="{end:.3f}" '
        f'title="{start:.2f} - {end:.2f} s">{escape(word)}</button>'
        for start, end, word in spans
    )
    return f'{heading_html(text("words"))}<div data-audio="{escape(url)}">{words}</div>' if words else ""


def labels_html(response: Response, asked: Iterable[str], text: Texts) -> str:
    """A table: the labels, each with the probabilities of its set as bars; improbable ones are left out.

    Parameters
    ----------
    asked : fields of the labels that were asked for; those that the answer does not have are named.
    """
    rows = []
    for field, chosen in response.labels.items():
        sure = (response.probabilities or {}).get(field, {chosen: 1.0})
        likely = [(value, p) for value, p in sure.items() if value == chosen or p >= LEAST]
        for n, (value, p) in enumerate(sorted(likely, key=lambda item: -item[1])):
            rows.append(
                f"<tr><td>{escape(text(field)) if n == 0 else ''}</td>"
                f'<td class="{"chosen" if value == chosen else ""}">{escape(text.label(value))}</td>'
                f'<td style="width: 50%"><div class="bar" style="width: {100 * p:.1f}%"></div></td>'
                f"<td>{p:.1%}</td></tr>"
            )
    for field in asked:
        if field not in response.labels:
            name, lacks = escape(text(field)), escape(text("missing"))
            rows.append(f'<tr class="missing"><td>{name}</td><td colspan="3">{lacks}</td></tr>')
    if not rows:
        return ""
    table = f'<table class="osum-labels" style="width: 100%">{"".join(rows)}</table>'
    return heading_html(text("labels")) + table


def mel_picture(mel_TF: np.ndarray) -> np.ndarray:
    """Log-mel features as a picture, uint8 (H, W, 3): time to the right, pitch upwards, loud is bright."""
    columns = -(-len(mel_TF) // -(-len(mel_TF) // WIDTHS[1]))
    starts = np.linspace(0, len(mel_TF), columns, endpoint=False).astype(int)
    loud_WF = np.maximum.reduceat(mel_TF, starts, axis=0)
    low, high = float(loud_WF.min()), float(loud_WF.max())
    level_WF = (loud_WF - low) / max(high - low, 1e-6) * (len(COLOURS) - 1)
    anchors = np.arange(len(COLOURS))
    rgb_WF3 = np.stack([np.interp(level_WF, anchors, COLOURS[:, c]) for c in range(3)], axis=-1)
    picture_FW3 = rgb_WF3.round().astype(np.uint8).transpose(1, 0, 2)[::-1]
    return np.repeat(np.repeat(picture_FW3, ROWS_A_BIN, axis=0), -(-WIDTHS[0] // columns), axis=1)
