"""A run that MindFormers starts: its data, and the callback that resumes, reports, saves, writes the model.

`run_mindformer.py --config RUN/mindformers.yaml --register_path .../mindformers_plugin` builds all of
it from the YAML by name. `osum train` uses the same YAML and registers the run that it has prepared.

Notable choices
- The job is in the YAML, at `train_dataset_task.job`: data, resuming and reports follow it. The network, the
  optimizer and the step follow MindFormers' own sections.
- MindFormers builds the data set first, then the callbacks; the run is kept in between.
- MindFormers' script shows a trace for every exception; a mistake in the job ends it with one line instead.
"""

import sys
from pathlib import Path

from mindspore_osum.data.batches.loader import Steps, generator_dataset
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.text.tokenizer import open_tokenizer
from mindspore_osum.training.config import job_from
from mindspore_osum.training.lock import locked
from mindspore_osum.training.monitor import RunMonitor
from mindspore_osum.training.run import Run, finish, model_config, prepare, process

JOB = "train_dataset_task.job"
_prepared: list = []  # the run that OsumData prepared: (Run, the model's Config, its start folder, lock)


def plain(values):
    """The same values with MindFormers' mappings as dictionaries."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    return [plain(value) for value in values] if isinstance(values, list | tuple) else values


class OsumData:
    """The batches of a job's remaining steps, as a MindSpore dataset.

    Parameters
    ----------
    job : as in a run's config.yaml.
    dataset_config : MindFormers adds it; not used.
    """

    def __new__(cls, job=None, dataset_config=None):
        try:
            run = prepared(job)
        except UserError as error:
            print(one_line(f"error: {error}"), file=sys.stderr, flush=True)
            raise SystemExit(1) from None
        return generator_dataset(Steps(run.loader, run.first, run.last), run.cfg.data.ahead)


def prepared(job: dict | None) -> Run:
    """Lock the run's folder and prepare the run; one that is finished ends the process."""
    if not isinstance(job, dict):
        raise UserError(f"{JOB}: the job is missing; take the mindformers.yaml that osum train writes")
    cfg = job_from(plain(job), JOB)
    tokenizer = open_tokenizer(cfg.tokenizer)
    model, start = model_config(cfg, tokenizer)
    lock = locked(Path(cfg.output_dir)) if process()[0] == 0 else None
    run = prepare(cfg, model, start, tokenizer, fresh=False)
    if run.first >= run.last:
        finish(run, model, start)
        raise SystemExit(0)
    _prepared[:] = [(run, model, start, lock)]
    return run


class OsumRun(RunMonitor):
    """RunMonitor of the run that `OsumData` prepared; at the end it writes the model."""

    def __init__(self):
        if not _prepared:
            raise UserError("callbacks: OsumRun needs train_dataset_task.type: OsumData")
        self.prepared = _prepared.pop()
        super().__init__(self.prepared[0])

    def on_train_end(self, run_context):
        """Write the model unless a signal ended the run; another run may then use the folder."""
        super().on_train_end(run_context)
        run, model, start, lock = self.prepared
        if not self.signal:
            finish(run, model, start, self.network)
        if lock is not None:
            lock.close()
