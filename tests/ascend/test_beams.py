"""The graphs of a beam search keep to Ascend's rules, as all others: compiled in real widths, not run."""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.ascend import graphs, rules
from mindspore_osum.systems.registry import preset, system_of
from tests.ascend.test_graphs import model

ROWS, BEAMS, SLOTS = 8, 4, 512


def layer_of(name: str, dtype: str):
    """A preset with one layer in each stack, in this type."""
    whole = model(dtype) if name.startswith("osum") else replace(preset(name), dtype=dtype)
    return system_of(whole.model_type).shallow(whole, 1)


@pytest.mark.parametrize("name, dtype", [("osum_pangu_7b", "bfloat16"), ("whisper_base", "float16")])
def test_a_search_keeps_to_the_rules(name, dtype):
    from mindspore_osum.inference.beam_search import Candidates, make_graphs
    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.models.joined import prepare

    cfg, rows = layer_of(name, dtype), ROWS * BEAMS
    with graphs.on_ascend():
        generator = Generator(prepare(system_of(cfg.model_type).build(cfg).set_train(False)))
        parts = generator.parts
        made = make_graphs(parts, ROWS, SLOTS, BEAMS)
        ruled = parts.rules is not None
        candidates = Candidates(BEAMS + 1, cfg.decoder.vocab_size, ruled)
    held = [np.zeros((rows, parts.rules.width), np.int32)] if ruled else []
    few, ints, ones = np.zeros(ROWS, np.int32), np.zeros(rows, np.int32), np.ones(rows, np.float32)
    inputs = {
        "spread": (made.spread.cell, [few, *(x[:ROWS] for x in held)]),
        "step": (made.step.cell, [ints, ints, ones, *held]),
        "move": (made.move.cell, [few, few, ints, ints, *held]),
        "candidates": (candidates, [np.zeros((rows, cfg.decoder.vocab_size), np.float32)]),
    }
    names = set()
    for graph, (cell, arrays) in inputs.items():
        nodes = graphs._nodes(cell, arrays)
        assert not [str(line) for line in rules.check(graph, nodes)]
        names.update(node.name for node in nodes)
    assert {"IncreFlashAttention", "KVCacheScatterUpdate", "ScatterUpdate", "TopK", "GatherD"} <= names
    # the rows of a recording attend to its frames together, as queries of one attention
    assert ("FlashAttentionScore" in names) == ruled
