"""A response as the page shows it: HTML of words and labels, and the log-mel picture.

Legend: T mel frames, F mel bins, H and W rows and columns of a picture.

Notable choices
- Everything that a model or a person wrote is escaped; the page's own script (`SCRIPT`) is fixed text and
  finds its words by their class.
"""

from html import escape

import numpy as np

from mindspore_osum.results import Response

WIDTHS, ROWS_A_BIN = (600, 1600), 3  # least and most columns of the picture; its rows for each mel bin
# from quiet to loud: dark blue, violet, red, orange, pale yellow
COLOURS = np.array([[0, 0, 20], [70, 15, 110], [170, 40, 95], [240, 110, 30], [252, 240, 180]], float)

STYLE = """
.osum-word { cursor: pointer; padding: 1px 4px; border-radius: 4px; display: inline-block }
.osum-word:hover { outline: 1px solid }
.osum-word.playing { background: #f6b26b; color: #000 }
.osum-labels td { padding: 2px 8px; border: none; white-space: nowrap }
.osum-labels .bar { background: #3d85c6; height: 0.8em; min-width: 1px }
.osum-labels .chosen { font-weight: bold }
"""

# a click on a word plays the recording from its start to its end and marks it meanwhile
SCRIPT = """<script>
document.addEventListener("click", (event) => {
  const word = event.target.closest ? event.target.closest(".osum-word") : null;
  if (!word) return;
  const sound = word.parentElement.querySelector("audio");
  document.querySelectorAll(".osum-word.playing").forEach((other) => other.classList.remove("playing"));
  const end = parseFloat(word.dataset.end);
  sound.ontimeupdate = () => {
    if (sound.currentTime >= end) sound.pause();
  };
  sound.onpause = () => word.classList.remove("playing");  // also at the end of the recording
  sound.currentTime = parseFloat(word.dataset.start);
  word.classList.add("playing");
  sound.play();
});
</script>"""


def words_html(response: Response, url: str) -> str:
    """Words that play the recording at `url` when they are clicked; without their times, whole segments."""
    spans = [(w.start, w.end, w.text) for w in response.words]
    spans = spans or [(s.start, s.end, s.text) for s in response.segments if s.text]
    words = "".join(
        f'<span class="osum-word" data-start="{start:.3f}" data-end="{end:.3f}" '
        f'title="{start:.2f} - {end:.2f} s">{escape(text)}</span>'
        for start, end, text in spans
    )
    return f'<div><audio src="{escape(url)}" controls preload="auto"></audio><br>{words}</div>'


def labels_html(response: Response) -> str:
    """A table: the labels, each with the probabilities of its set as bars; the reply of a spoken chat."""
    rows = []
    for field, chosen in response.labels.items():
        sure = (response.probabilities or {}).get(field, {chosen: 1.0})
        for n, (value, p) in enumerate(sorted(sure.items(), key=lambda item: -item[1])):
            rows.append(
                f"<tr><td>{escape(field) if n == 0 else ''}</td>"
                f'<td class="{"chosen" if value == chosen else ""}">{escape(value)}</td>'
                f'<td style="width: 50%"><div class="bar" style="width: {100 * p:.1f}%"></div></td>'
                f"<td>{p:.1%}</td></tr>"
            )
    if not rows:
        return "<p>No label in this answer.</p>"
    return f'<table class="osum-labels" style="width: 100%">{"".join(rows)}</table>'


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
