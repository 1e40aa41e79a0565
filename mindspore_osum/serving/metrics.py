"""The server's counters, in Prometheus' text format 0.0.4; its summaries have no quantiles."""

import threading

KINDS = {
    "osum_http_requests_total": ("counter", "Answered requests by path and status"),
    "osum_http_request_seconds": ("summary", "Time from the headers of a request to the end of its answer"),
    "osum_requests_in_progress": ("gauge", "Requests that are uploaded, wait or are computed"),
    "osum_batches_total": ("counter", "Batches computed; a streamed answer is a batch of its own"),
    "osum_batch_rows_total": ("counter", "Recordings, or chunks of them, answered in these batches"),
    "osum_audio_seconds_total": ("counter", "Seconds of audio answered"),
    "osum_compute_seconds_total": ("counter", "Seconds the model was busy, compiling included"),
    "osum_compile_seconds_total": ("counter", "Seconds of compiling graphs for new static shapes"),
    "osum_compiled_graphs": ("gauge", "Graphs compiled, one for each static shape"),
}


class Metrics:
    """Numbers that any thread may change.

    Parameters
    ----------
    replica : the label of all samples where several processes answer behind one address; "" without.
    """

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, replica: str = ""):
        self._replica = f'replica="{_escaped(replica)}"' if replica else ""
        self._lock = threading.Lock()
        self._values: dict[str, dict[str, float]] = {name: {} for name in KINDS}
        for name, (kind, _) in KINDS.items():
            if kind != "summary" and not name.startswith("osum_http"):
                self._values[name][name] = 0.0  # without labels: present from the start

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter or a gauge; to a summary as one observation."""
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        shown = f"{{{shown}}}" if shown else ""
        added = {f"{name}{shown}": value}
        if KINDS[name][0] == "summary":
            added = {f"{name}_sum{shown}": value, f"{name}_count{shown}": 1}
        with self._lock:
            for sample, more in added.items():
                self._values[name][sample] = self._values[name].get(sample, 0.0) + more

    def put(self, name: str, value: float) -> None:
        """Set a number without labels."""
        with self._lock:
            self._values[name][name] = float(value)

    def value(self, name: str) -> float:
        """The current value of a number without labels."""
        with self._lock:
            return self._values[name][name]

    def text(self) -> str:
        """The whole page."""
        lines = []
        with self._lock:
            for name, (kind, about) in KINDS.items():
                lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
                lines += [f"{self._full(sample)} {value:.9g}" for sample, value in self._values[name].items()]
        return "\n".join([*lines, ""])

    def _full(self, sample: str) -> str:
        """A sample's name and labels, with that of the replica."""
        if not self._replica:
            return sample
        name, brace, labels = sample.partition("{")
        return f"{name}{{{self._replica},{labels}" if brace else f"{name}{{{self._replica}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
