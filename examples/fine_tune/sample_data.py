"""Writes the bundled recordings and their tables as an example of your own data, for docs/TUTORIAL.md.

    python examples/fine_tune/sample_data.py my_data

writes my_data/wav/*.wav, my_data/train.tsv and my_data/valid.tsv (a third) with columns audio, text, gender.
"""

import shutil
import sys
from pathlib import Path

from mindspore_osum.data.formats.manifest import key_of
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.folder import BUNDLED
from mindspore_osum.tasks import parse_answer, tags_of

RECORDINGS = BUNDLED.parent / "recordings" / "manifest.jsonl"
COLUMNS = ("audio", "text", "gender")


def rows() -> dict[Path, tuple[str, str]]:
    """Recording -> (transcript, gender of the speaker), each recording once."""
    found = {}
    for line in read_manifest(RECORDINGS)[0]:
        if "asr" in tags_of(key_of(line)):
            found[Path(line.wav)] = (parse_answer(line.txt, line.task).text, line.extra["gender"])
    return found


def lay_out(folder: Path) -> None:
    """Write the tables and copy the recordings; `folder` must not exist yet."""
    try:
        (folder / "wav").mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{folder / 'wav'}: is there already; name another folder") from None
    tables = {"train": ["\t".join(COLUMNS)], "valid": ["\t".join(COLUMNS)]}
    for number, (wav, (text, gender)) in enumerate(rows().items()):
        shutil.copyfile(wav, folder / "wav" / wav.name)
        tables["train" if number % 3 else "valid"].append(f"wav/{wav.name}\t{text}\t{gender}")
    for split, lines in tables.items():
        write_text(folder / f"{split}.tsv", "\n".join(lines) + "\n")
        print(f"{folder / split}.tsv: {len(lines) - 1} recordings")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: sample_data.py FOLDER")
    try:
        lay_out(Path(sys.argv[1]))
    except (UserError, OSError) as error:
        sys.exit(f"sample_data.py: {error}")
