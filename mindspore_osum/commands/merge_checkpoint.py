"""`osum merge-checkpoint`: the model of a run's checkpoint as a model folder, also during the run."""

from pathlib import Path

from mindspore_osum.errors import UserError

EXAMPLES = """\
examples:
  osum merge-checkpoint output/stage1 output/stage1_so_far              # the newest checkpoint
  osum merge-checkpoint output/stage1 output/early --step 500
"""


def add_arguments(parser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("run", help="output_dir of a job, with checkpoints of one process or of many")
    parser.add_argument("output", help="new model folder")
    parser.add_argument("--step", type=int, help="of the checkpoint; default: the newest one that is whole")


def run(args) -> int:
    """Merge; returns the exit status."""
    from mindspore_osum.folder import save_folder
    from mindspore_osum.text.tokenizer import open_tokenizer
    from mindspore_osum.training import checkpoint
    from mindspore_osum.training.config import read_job
    from mindspore_osum.training.model_files import restored
    from mindspore_osum.training.run import model_config

    folder, output = Path(args.run), Path(args.output)
    chosen = checkpoint.choose(folder / "checkpoints", args.step)
    if not chosen:
        raise UserError(f"{folder}: no checkpoint there; give the output_dir of a job that has saved one")
    if output.exists():
        raise UserError(f"{output}: exists; give a new folder")
    cfg = read_job(str(folder / "config.yaml"))
    model, start = model_config(cfg, open_tokenizer(cfg.tokenizer))
    save_folder(output, restored(chosen[1], model, start, cfg.seed, cfg.learn), cfg.tokenizer)
    print(f"{output}: the model of {chosen[1]}")
    return 0
