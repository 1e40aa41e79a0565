"""Move a trained model to another tokenizer: pieces that both know keep their vectors, new ones are random.

    python examples/speech_world/carry_over.py --model OLD --tokenizer NEW.model --vocab 2048 --output START

For a corpus whose words are more than a model's: what it hears and how it writes stays, training goes on.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, TOKENIZER, read_config
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights, write_text

TABLES = ("decoder.model.embed_tokens.weight", "decoder.lm_head.weight")


def shared_pieces(old: Path, new: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the same pieces in two tokenizers."""
    before, after = (SentencePieceProcessor(model_file=str(path)) for path in (old, new))
    known = {before.id_to_piece(i): i for i in range(before.vocab_size())}
    pairs = [(known[piece], i) for i in range(after.vocab_size()) if (piece := after.id_to_piece(i)) in known]
    return tuple(np.array(pairs).T)


def carry_over(model: Path, tokenizer: Path, vocab: int, output: Path, seed: int) -> int:
    """Write the model folder; returns how many pieces were known."""
    config = read_config(model).to_dict()
    old_ids, new_ids = shared_pieces(model / TOKENIZER, tokenizer)
    if new_ids.max() >= vocab:
        raise UserError(f"--vocab {vocab}: {tokenizer} has more pieces")
    rng = np.random.default_rng(seed)
    output.mkdir(parents=True, exist_ok=True)
    with open_weights(model) as weights:
        wide = {name: (vocab, *info.shape[1:]) for name, info in weights.infos.items() if name in TABLES}
        infos = {name: TensorInfo("F32", wide.get(name, info.shape)) for name, info in weights.infos.items()}
        with WeightsWriter(output, infos) as writer:
            for name in infos:
                values = np.asarray(weights.read(name), np.float32)
                if name in wide:
                    old = values
                    values = rng.standard_normal(wide[name], np.float32) * old.std(dtype=np.float32)
                    values[new_ids] = old[old_ids]
                writer.write(name, values)
    shutil.copyfile(tokenizer, output / TOKENIZER)
    config["decoder"]["vocab_size"] = vocab
    write_text(output / CONFIG, json.dumps(config, indent=2) + "\n")
    return len(new_ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="trained model folder")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the new tokenizer.model")
    parser.add_argument("--vocab", type=int, required=True, help="rows of the new embedding tables")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--seed", type=int, default=0, help="of the new rows (default 0)")
    args = parser.parse_args()
    try:
        known = carry_over(args.model, args.tokenizer, args.vocab, args.output, args.seed)
    except (UserError, OSError) as error:
        raise SystemExit(f"carry_over: {error}") from None
    size = sum(os.path.getsize(path) for path in args.output.iterdir())
    print(f"{args.output}: {size / 1e6:.1f} MB, {known} pieces carried over")


if __name__ == "__main__":
    main()
