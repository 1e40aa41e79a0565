"""The training callback of a run: resumes, reports, saves, stops.

Notable choices
- Steps are optimizer steps; with accumulation MindSpore's own count is of micro-batches.
- One line on stderr and one in metrics.jsonl every `log_every` steps, with means over these steps.
- On SIGTERM or SIGINT the run finishes the step, writes a checkpoint and stops.
- A step with a non-finite loss or gradient is skipped and counted, as with loss scaling; several in a row
  stop the run. No checkpoint is written during such a series, so that the last good ones are kept.
- The first process writes checkpoints while the others wait, so that all processes know of a failure. They
  look for a file meanwhile: a collective that one of them delays fails after HCCL_EXEC_TIMEOUT (30 min).
- Data-parallel processes take turns at the batches of the validation data, and exchange the losses of each.
"""

import hashlib
import math
import os
import signal
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindformers.wrapper.wrapper import get_real_models
from mindspore import Tensor, ops
from mindspore.train import Callback

from mindspore_osum.data.batches.batching import TARGETS, UTTERANCES
from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.training import checkpoint
from mindspore_osum.training.network import Evaluation
from mindspore_osum.training.parallel_step import ShardedCheckpoint
from mindspore_osum.training.report import Metrics, clock, say
from mindspore_osum.training.tally import Tally, add_losses

SAVES = ".saves_{}"  # in the run's folder while several processes train
LOSS = "loss"  # the training loss, the weighted sum of the others


class RunMonitor(Callback):
    """Callback of one run.

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
        self.resume, self.fingerprint, self.main = run.resume, run.fingerprint, run.rank == 0
        self.rank, self.ranks = run.rank, run.ranks
        self.metrics, self.stop_file = None, run.folder / "stop_after_step"
        self.saves = 0  # checkpoints of this process so far; so many does the name of `_saves_file` say
        self.network, self.evaluation, self.signal = None, None, 0
        # not in a cell: MindSpore would shard its graph over devices and stages
        self.sum_over_ranks = ops.AllReduce() if run.ranks > 1 else None
        self.micros, self.of_step = 0, Tally()  # of the current step: micro-batches so far, and their losses
        self.bad_in_a_row, self.save_is_due = 0, False
        self.rate, self.norm = 0.0, 0.0  # of the last step that was applied
        self._start_counting()

    def _start_counting(self) -> None:
        """Begin an interval of the report."""
        self.losses, self.steps, self.rows, self.tokens = Tally(), 0, 0, 0
        self.since = time.perf_counter()

    def on_train_begin(self, run_context):
        """Restore the checkpoint and install the signal handlers."""
        step_cell = run_context.original_args().train_network
        self.network = get_real_models(step_cell)
        if self.resume:
            checkpoint.restore(self.resume, state_params(step_cell))
        if self.main and self.ranks > 1:
            for stale in self.folder.glob(SAVES.format("*")):
                stale.unlink()
            write_text(self._saves_file(), "")
        short = self.first % 1000  # float32 holds the sum of these exactly
        if self._meet(short) != short * self.ranks:
            raise UserError(f"{self.folder}: processes resume at different steps; one folder must be shared")
        if self.main:
            self.metrics = Metrics(self.folder, self.first)
            self.stop_file.unlink(missing_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        say(f"compiling; steps {self.first}..{self.last}")
        self._start_counting()

    def _on_signal(self, number, frame):
        if self.signal:  # second signal: stop at once
            raise KeyboardInterrupt
        self.signal = number
        say(f"{signal.Signals(number).name}: a checkpoint is written after this step; again to stop at once")

    def on_train_step_end(self, run_context):
        """Count, report, save, stop."""
        args = run_context.original_args()
        loss, bad, _, rate, norm = (float(np.asarray(x.asnumpy())) for x in args.net_outputs[:5])
        self.of_step.add(LOSS, loss, 1)
        names = self.network.shown, self.network.counted
        add_losses(self.of_step, *names, *(x.asnumpy() for x in args.net_outputs[5:]), over={})
        self.micros += 1
        if self.micros < self.loader.accumulation:
            return
        losses, self.micros, self.of_step = self.of_step, 0, Tally()
        loss, _ = losses.sums[LOSS]
        if bad or not math.isfinite(loss + norm):
            self._skip(*(("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)), bool(bad))
        else:
            self._count(losses)
            self.rate, self.norm = rate, norm
        self.step += 1
        done = self.step >= self.last
        if self.steps and (self.step % self.cfg.log_every == 0 or done):
            self._report()
        stop = self._asked_to_stop()
        self.save_is_due |= self.step % self.cfg.save_every == 0
        if (self.save_is_due and not self.bad_in_a_row) or done or stop:
            self._save(args.train_network, validate=not stop)
        if done or stop:
            run_context.request_stop()

    def _count(self, losses: Tally) -> None:
        """Add an applied step to the report interval."""
        self.bad_in_a_row = 0
        self.losses.take(losses)
        self.steps += 1
        counts = self.loader.counts(self.step)
        self.rows += counts[UTTERANCES]
        self.tokens += counts[TARGETS]

    def _skip(self, what: str, value: float, skipped: bool) -> None:
        """Report a skipped step; stop the run when too many follow each other."""
        self.bad_in_a_row += 1
        keys, reason = self.loader.keys(self.step), f"the {what} is {value}"
        if self.main:
            self.metrics.skip(self.step + 1, reason, keys)
        of = f"Utterances: {', '.join(keys)}"
        limit = self.cfg.max_bad_steps
        done = "nothing of this step was applied" if skipped else "this step was applied"
        text = f"step {self.step + 1}: {reason}; {done}, {self.bad_in_a_row} of {limit} in a row"
        if skipped and self.bad_in_a_row < limit:
            return say(f"{text}. {of}")
        if self.main:
            self.metrics.refresh()
        raise UserError(f"{text}. Lower optimizer.lr or look at the utterances, then resume. {of}")

    def _asked_to_stop(self) -> bool:
        """Whether a signal ends the run after this step; all processes get the same answer."""
        if self.ranks > 1:
            # the first process names the next step; no other has passed it, as every step is reduced over all
            if self.main and self.signal and not self.stop_file.exists():
                write_text(self.stop_file, str(self.step + 1))
            if not self.stop_file.exists() or self.step < int(self.stop_file.read_text()):
                return False
            self.signal = self.signal or signal.SIGTERM
        return bool(self.signal)

    def _report(self) -> None:
        seconds = max(time.perf_counter() - self.since, 1e-9)
        means = self.losses.means()
        left = (self.last - self.step) * seconds / self.steps
        say(
            f"step {self.step}/{self.last}  loss {means[LOSS]:.4f} ({self._told(self.losses)})  "
            f"lr {self.rate:.2e}  grad {self.norm:.2f}  {self.rows / seconds:.1f} utt/s  "
            f"{self.tokens / seconds:.0f} tok/s  left {clock(left)}"
        )
        record = {
            "step": self.step,
            "epoch": self.loader.position(self.step - 1)[0],
            **means,
            "lr": self.rate,
            "grad_norm": self.norm,
            "utterances_per_s": self.rows / seconds,
            "tokens_per_s": self.tokens / seconds,
            "seconds": seconds,
        }
        if self.main:
            self.metrics.write(record)
        self._start_counting()

    def _save(self, step_cell, validate: bool) -> None:
        began = time.perf_counter()
        arrays = {name: p.asnumpy() for name, p in state_params(step_cell).items()}
        if self.ranks > 1 and not self.cfg.is_sharded:
            # in every process's log: data-parallel processes must hold the same bits
            line = f"rank {self.rank} step {self.step} weights digest {digest(arrays)}"
            print(line, file=sys.stderr, flush=True)
        save = (
            ShardedCheckpoint(step_cell, self.rank, self._meet).save
            if self.cfg.is_sharded
            else self._save_alone
        )
        epoch, place = self.loader.position(self.step)
        about = {
            "epoch": epoch,
            "place": place,
            "start": self.cfg.model.start,
            "fingerprint": self.fingerprint,
        }
        path = save(self.folder / "checkpoints", self.step, arrays, about, self.cfg.keep_last)
        say(f"saved {path}")
        self.save_is_due = False
        if self.valid and validate:
            self._validate()
        if self.main:
            self.metrics.refresh()
        self.since += time.perf_counter() - began  # time spent saving does not count for the speed

    def _save_alone(self, *args) -> Path | None:
        """checkpoint.save in the first process; the others wait, so that all know of a failure."""
        path, problem, before = None, None, self._saves_file()
        self.saves += 1
        try:
            path = checkpoint.save(*args) if self.main else None
        except UserError as error:
            problem = error
        finally:
            if self.main and self.ranks > 1:
                os.replace(before, self._saves_file())  # which needs no space on a full disk
        while not self.main and not self._saves_file().exists():
            time.sleep(0.05)
        if self._meet(int(problem is not None)):
            raise problem or UserError(f"{self.folder}: the first process could not write the checkpoint")
        return path

    def _saves_file(self) -> Path:
        """The file by which the first process says how many checkpoints it has written."""
        return self.folder / SAVES.format(self.saves)

    def on_train_end(self, run_context):
        """Remove the file of `_saves_file`; all processes have met since they looked for it."""
        if self.main:
            self._saves_file().unlink(missing_ok=True)

    def _meet(self, number: int) -> int:
        """Wait for all processes; returns the sum of their numbers."""
        if self.sum_over_ranks is None:
            return number
        return int(self.sum_over_ranks(Tensor([number], ms.float32)).asnumpy()[0])  # CPU cannot sum integers

    def _validate(self) -> None:
        """The losses over the validation data, each averaged over its own targets; no dropout."""
        is_sharded, net, tally = self.cfg.is_sharded, self.network, Tally()
        self.evaluation = self.evaluation or (net if is_sharded else Evaluation(net))
        self.evaluation.set_train(False)
        steps, alone = self.valid.steps_per_epoch, is_sharded or self.ranks == 1
        values_SV = np.zeros((steps, len(net.shown) + max(1, len(net.counted))), np.float32)
        for step in range(0 if alone else self.rank, steps, 1 if alone else self.ranks):
            found = self.evaluation(*map(Tensor, self.valid.micro_batch(step, 0).values()))
            # a sharded network returns one vector that begins with the loss
            parts = [found.asnumpy()[1:]] if is_sharded else [part.asnumpy() for part in found]
            values_SV[step] = np.concatenate(parts)
        net.set_train(True)
        if not alone:  # the others have zeros there: every process gets the numbers of one alone, to the bit
            values_SV = self.sum_over_ranks(Tensor(values_SV)).asnumpy()
        for step, values_V in enumerate(values_SV):
            counts = self.valid.counts(step)
            over = {name: counts[column] for name, column in zip(net.shown, net.over) if column}
            values_K, counts_J = values_V[: len(net.shown)], values_V[len(net.shown) :]
            if is_sharded:  # means
                values_K = [v * over.get(name, 1) for name, v in zip(net.shown, values_K)]
            add_losses(tally, net.shown, net.counted, values_K, counts_J, over)
        if self.main:
            self.metrics.write({"step": self.step, **tally.means("valid_")})
            say(f"step {self.step}  valid {self._told(tally)}")

    def _told(self, tally: Tally) -> str:
        """The means of a tally as text: the training loss, and the other losses that the job has."""
        first, means = self.network.shown[0], tally.means()
        names = [name for name, column in zip(self.network.shown, self.network.over) if column]
        return " ".join(f"{name} {means[name]:.4f}" for name in names if means[name] or name == first)


def digest(arrays: dict[str, np.ndarray]) -> str:
    """Digest of names and values: equal for equal bits."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def state_params(step_cell) -> dict:
    """Name -> Parameter of a checkpoint: trainable parameters and all state that is no weight of the network.

    The gradient sums of micro-batches are left out: they are zero between steps.
    """
    network = get_real_models(step_cell)
    left_out = {p.name for p in network.get_parameters() if not p.requires_grad}
    left_out |= {p.name for p in step_cell.sums}
    return {p.name: p for p in step_cell.get_parameters() if p.name not in left_out}
