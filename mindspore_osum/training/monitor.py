"""The callback that follows a run: resumes, reports, saves, stops.

Notable choices
- Steps are optimizer steps; with accumulation MindSpore's own count is of micro-batches.
- One line on stderr and one in metrics.jsonl every `log_every` steps, with means over these steps.
- SIGTERM and SIGINT end the step, write a checkpoint and stop; a loss that is not finite stops without
  writing one.
"""

import hashlib
import math
import signal
import sys
import time

import numpy as np
from mindspore import Tensor
from mindspore.train import Callback

from mindspore_osum.errors import UserError
from mindspore_osum.training import checkpoint
from mindspore_osum.training.network import Evaluation
from mindspore_osum.training.report import append_line, clock, keep_lines, say
from mindspore_osum.weights_io import write_text


class RunMonitor(Callback):
    """Follows one run.

    Parameters
    ----------
    run : training/run.py `Run`; its first process reports and saves.

    Attributes
    ----------
    signal : number of the signal that stopped the run, 0 if none.
    network : the training network, once training has begun.
    """

    def __init__(self, run):
        self.cfg, self.folder, self.loader, self.valid = run.cfg, run.folder, run.loader, run.valid
        self.step, self.first, self.last = run.first, run.first, run.last
        self.resume, self.fingerprint, self.main = run.resume, run.fingerprint, run.loader.rank == 0
        self.metrics, self.stop_file = run.folder / "metrics.jsonl", run.folder / "stop_after_step"
        self.network, self.evaluation, self.signal = None, None, 0
        self._start_counting()

    def _start_counting(self) -> None:
        """Begin an interval of the report."""
        self.sums, self.micros, self.rows, self.tokens = np.zeros(7), 0, 0, 0
        self.since = time.perf_counter()

    def on_train_begin(self, run_context):
        """Restore the checkpoint, take over the signals."""
        step_cell = run_context.original_args().train_network
        self.network = step_cell.network
        if self.resume:
            checkpoint.restore(self.resume, state_params(step_cell))
        if self.main:
            keep_lines(self.metrics, self.first)
            self.stop_file.unlink(missing_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        say(f"compiling; steps {self.first}..{self.last}")
        self._start_counting()

    def _on_signal(self, number, frame):
        if self.signal:  # asked twice: at once
            raise KeyboardInterrupt
        self.signal = number
        say(f"{signal.Signals(number).name}: a checkpoint is written after this step; again to stop at once")

    def on_train_step_end(self, run_context):
        """Count, report, save, stop."""
        args = run_context.original_args()
        loss, bad, _, rate, norm = (float(np.asarray(x.asnumpy())) for x in args.net_outputs[:5])
        parts_2, spans_4 = (x.asnumpy() for x in args.net_outputs[5:])
        self.sums += np.concatenate([[loss], parts_2, spans_4])
        self.micros += 1
        if not math.isfinite(loss):
            self._refuse("loss", loss)
        if self.micros % self.cfg.accumulation:
            return
        if bad or not math.isfinite(norm):
            self._refuse("gradient norm", norm)
        rows, tokens = self.loader.counts(self.step)
        self.rows += rows
        self.tokens += tokens
        self.step += 1
        done = self.step >= self.last
        if self.step % self.cfg.log_every == 0 or done:
            self._report(rate, norm)
        stop = self._asked_to_stop()
        if self.step % self.cfg.save_every == 0 or done or stop:
            self._save(args.train_network, validate=not stop)
        if done or stop:
            run_context.request_stop()

    def _asked_to_stop(self) -> bool:
        """Whether a signal ends the run after this step, with the same answer in all processes."""
        if self.loader.ranks > 1:
            # the first process names the next step; no other has passed it, as every step is reduced over all
            if self.main and self.signal and not self.stop_file.exists():
                write_text(self.stop_file, str(self.step + 1))
            if not self.stop_file.exists() or self.step < int(self.stop_file.read_text()):
                return False
            self.signal = self.signal or signal.SIGTERM
        return bool(self.signal)

    def _refuse(self, what: str, value: float):
        keys = ", ".join(self.loader.keys(self.step))
        raise UserError(
            f"step {self.step + 1}: the {what} is {value}; nothing of this step was applied. Lower "
            f"optimizer.lr or look at its utterances, then resume. Utterances: {keys}"
        )

    def _report(self, rate: float, norm: float) -> None:
        seconds = max(time.perf_counter() - self.since, 1e-9)
        loss, ce, ctc = (float(x) for x in self.sums[:3] / self.micros)
        steps = self.micros // self.cfg.accumulation
        left = (self.last - self.step) * seconds / steps
        say(
            f"step {self.step}/{self.last}  loss {loss:.4f} (ce {ce:.4f} ctc {ctc:.4f})  lr {rate:.2e}  "
            f"grad {norm:.2f}  {self.rows / seconds:.1f} utt/s  {self.tokens / seconds:.0f} tok/s  "
            f"left {clock(left)}"
        )
        record = {"step": self.step, "epoch": self.loader.position(self.step - 1)[0], "loss": loss, "ce": ce,
                  "ctc": ctc, **span_losses(self.sums[3:]), "lr": rate, "grad_norm": norm,
                  "utterances_per_s": self.rows / seconds, "tokens_per_s": self.tokens / seconds,
                  "seconds": seconds}
        if self.main:
            append_line(self.metrics, record)
        self._start_counting()

    def _save(self, step_cell, validate: bool) -> None:
        began = time.perf_counter()
        arrays = {name: p.asnumpy() for name, p in state_params(step_cell).items()}
        if self.loader.ranks > 1:  # in every process's log: data-parallel processes must hold the same bits
            line = f"rank {self.loader.rank} step {self.step} weights digest {digest(arrays)}"
            print(line, file=sys.stderr, flush=True)
        if self.main:
            epoch, place = self.loader.position(self.step)
            about = {"epoch": epoch, "place": place, "fingerprint": self.fingerprint}
            path = checkpoint.save(self.folder / "checkpoints", self.step, arrays, about, self.cfg.keep_last)
            say(f"saved {path}")
            if self.valid and validate:
                self._validate()
        self.since += time.perf_counter() - began  # saving is no part of the speed

    def _validate(self) -> None:
        """Cross-entropy a label and CTC an utterance over the validation data, without dropout."""
        self.evaluation = self.evaluation or Evaluation(self.network)
        self.evaluation.set_train(False)
        sums, rows, labels = np.zeros(6), 0, 0
        for step in range(self.valid.steps_per_epoch):
            sums += self.evaluation(*map(Tensor, self.valid.micro_batch(step, 0))).asnumpy()
            counts = self.valid.counts(step)
            rows, labels = rows + counts[0], labels + counts[1]
        self.network.set_train(True)
        ce, ctc = float(sums[0] / labels), float(sums[1] / rows)
        spans = span_losses(sums[2:], "valid_")
        append_line(self.metrics, {"step": self.step, "valid_ce": ce, "valid_ctc": ctc, **spans})
        say(f"step {self.step}  valid ce {ce:.4f} ctc {ctc:.4f}")


def span_losses(spans_4: np.ndarray, prefix: str = "") -> dict[str, float]:
    """Token means by span, from its summed cross-entropy and number of labels; none without labels."""
    sums = {"intent_loss": spans_4[:2], "content_loss": spans_4[2:]}
    return {prefix + name: float(total / count) for name, (total, count) in sums.items() if count}


def digest(arrays: dict[str, np.ndarray]) -> str:
    """The same text for the same names and bits."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def state_params(step_cell) -> dict:
    """Name -> Parameter of what a checkpoint holds: what learns, and all that is no weight of the network.

    The sums of micro-batches are left out: between two steps they are zero.
    """
    network = step_cell.network
    left_out = {p.name for p in network.get_parameters() if not p.requires_grad and p is not network.draws}
    left_out |= {p.name for p in step_cell.sums}
    return {p.name: p for p in step_cell.get_parameters() if p.name not in left_out}
