"""The callback that follows a run: resumes, reports, saves, stops.

Notable choices
- Steps are optimizer steps; with accumulation MindSpore's own count is of micro-batches.
- One line on stderr and one in metrics.jsonl every `log_every` steps, with means over these steps.
- SIGTERM and SIGINT end the step, write a checkpoint and stop; a loss that is not finite stops without writing one.
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from mindspore import Tensor
from mindspore.train import Callback

from mindspore_osum.errors import UserError
from mindspore_osum.training import checkpoint
from mindspore_osum.training.network import Evaluation
from mindspore_osum.weights_io import write_text

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunMonitor(Callback):
    """Follows one run.

    Parameters
    ----------
    cfg : the job.
    folder : the run's folder.
    loader : of the training data.
    first, last : steps [first, last) are run.
    resume : checkpoint to start from, or None.
    fingerprint : what must not change between a run and its resumption.
    main : whether this process reports and saves (rank 0).
    valid : loader of the validation data, or None.

    Attributes
    ----------
    signal : number of the signal that stopped the run, 0 if none.
    network : the training network, once training has begun.
    """

    def __init__(self, cfg, folder: Path, loader, first: int, last: int, *, resume: Path | None, fingerprint: dict,
                 main: bool, valid=None):
        self.cfg, self.folder, self.loader = cfg, folder, loader
        self.step, self.first, self.last = first, first, last
        self.resume, self.fingerprint, self.main, self.valid = resume, fingerprint, main, valid
        self.network, self.evaluation = None, None
        self.signal = 0
        self.metrics = folder / "metrics.jsonl"
        self.sums, self.micros, self.rows, self.tokens = np.zeros(3), 0, 0, 0
        self.since = 0.0

    def on_train_begin(self, run_context):
        """Restore the checkpoint, take over the signals."""
        step = run_context.original_args().train_network
        self.network = step.network
        if self.resume:
            checkpoint.restore(self.resume, state_params(step))
        if self.main:
            keep_metrics(self.metrics, self.first)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        say(f"compiling; steps {self.first}..{self.last}")
        self.since = time.perf_counter()

    def _on_signal(self, number, frame):
        if self.signal:  # asked twice: at once
            raise KeyboardInterrupt
        self.signal = number
        say(f"{signal.Signals(number).name}: finishing the step and writing a checkpoint (again to stop at once)")

    def on_train_step_end(self, run_context):
        """Count, report, save, stop."""
        args = run_context.original_args()
        loss, _, _, rate, norm, ce, ctc = (float(np.asarray(x.asnumpy())) for x in args.net_outputs)
        if not math.isfinite(loss):
            self._refuse(loss)
        self.sums += (loss, ce, ctc)
        self.micros += 1
        if self.micros % self.cfg.accumulation:
            return
        if not math.isfinite(norm):
            self._refuse(norm, "gradient norm")
        rows, tokens = self.loader.counts(self.step)
        self.rows += rows
        self.tokens += tokens
        self.step += 1
        done = self.step >= self.last
        if self.step % self.cfg.log_every == 0 or done:
            self._report(rate, norm)
        if self.step % self.cfg.save_every == 0 or done or self.signal:
            self._save(args.train_network)
        if done or self.signal:
            run_context.request_stop()

    def _refuse(self, value: float, what: str = "loss"):
        keys = ", ".join(self.loader.keys(self.step)[:64])
        raise UserError(f"step {self.step + 1}: the {what} is {value}; nothing of this step was applied. Lower "
                        f"optimizer.lr or look at its utterances, then resume. Utterances: {keys}")

    def _report(self, rate: float, norm: float) -> None:
        seconds = max(time.perf_counter() - self.since, 1e-9)
        loss, ce, ctc = self.sums / self.micros
        steps = self.micros // self.cfg.accumulation
        epoch, _ = self.loader.position(self.step - 1)
        record = {"step": self.step, "epoch": epoch, "loss": loss, "ce": ce, "ctc": ctc, "lr": rate, "grad_norm": norm,
                  "utterances_per_s": self.rows / seconds, "tokens_per_s": self.tokens / seconds, "seconds": seconds}
        left = (self.last - self.step) * seconds / steps
        if self.main:
            append_line(self.metrics, record)
        say(f"step {self.step}/{self.last}  loss {loss:.4f} (ce {ce:.4f} ctc {ctc:.4f})  lr {rate:.2e}  grad {norm:.2f}  "
            f"{record['utterances_per_s']:.1f} utt/s  {record['tokens_per_s']:.0f} tok/s  left {clock(left)}")
        self.sums, self.micros, self.rows, self.tokens = np.zeros(3), 0, 0, 0
        self.since = time.perf_counter()

    def _save(self, network) -> None:
        began = time.perf_counter()
        if self.main:
            arrays = {name: p.asnumpy() for name, p in state_params(network).items()}
            epoch, place = self.loader.position(self.step)
            about = {"epoch": epoch, "place": place, "fingerprint": self.fingerprint}
            path = checkpoint.save(self.folder / "checkpoints", self.step, arrays, about, self.cfg.keep_last)
            say(f"saved {path}")
            if self.valid and not self.signal:
                loss = self._valid_loss()
                append_line(self.metrics, {"step": self.step, "valid_ce": loss})
                say(f"step {self.step}  valid loss {loss:.4f}")
        self.since += time.perf_counter() - began


    def _valid_loss(self) -> float:
        """Cross-entropy a label over the validation data, without dropout."""
        self.evaluation = self.evaluation or Evaluation(self.network)
        self.evaluation.set_train(False)
        total, labels = 0.0, 0
        for step in range(self.valid.steps_per_epoch):
            total += float(self.evaluation(*map(Tensor, self.valid.micro_batch(step, 0))).asnumpy())
            labels += self.valid.counts(step)[1]
        self.network.set_train(True)
        return total / labels


def state_params(network) -> dict:
    """Name -> Parameter of what a checkpoint holds: what learns, and everything that is not a weight of the model."""
    frozen = {p.name for p in network.network.get_parameters() if not p.requires_grad}
    return {p.name: p for p in network.get_parameters() if p.name not in frozen}


def keep_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run will write again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a crash
    write_text(path, "".join(line + "\n" for line in kept))


def append_line(path: Path, record: dict) -> None:
    """Add one JSON line; numbers keep all digits."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def say(text: str) -> None:
    """One line for the person at the terminal; only rank 0 speaks."""
    if os.environ.get("RANK_ID", "0") == "0":
        print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"
