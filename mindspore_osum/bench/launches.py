"""Kernels that a decoder layer starts on Ascend, counted in its graphs: no device is needed, nothing runs.

Notable choices
- A layer's kernels are those that a second layer adds to a graph of one.
- The model has the structure of the published one (heads, biases, adapters with their dropout), and small
  widths, which change no graph.
- Counted is what MindSpore's front end hands over; nodes that only rename memory are none
  (models/graph_nodes).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.systems.registry import preset, system_of

PUBLISHED, WHISPER = "osum_pangu_7b", "whisper_medium"
ROWS, PROMPT, SLOTS = 8, 64, 128
GRAPHS = {
    "decode": "a token",
    "prefill": "a prompt",
    "decode_adapters": "a token, adapters not merged",
    "forward": "training, forward",
    "backward": "training, backward",
    "whisper_decode": "a token of a Whisper",
    "whisper_prefill": "a Whisper's prompt, and the language",
}


def run(setup: Setup) -> Outcome:
    """Count; `setup` changes nothing."""
    models.use_cpu()
    out = Outcome()
    layer = {name: two - one for (name, one), (_, two) in zip(_counted(1), _counted(2), strict=True)}
    layer["backward"] -= layer["forward"]  # the graph of gradients has both
    for name, what in GRAPHS.items():
        kinds = ", ".join(f"{n} {kind}" for kind, n in layer[name].most_common())
        total = layer[name].total()
        out.figure(f"launches_{name}", total, what, f"{total}: {kinds}")
    out.ratio("launches_decode_layer", layer["decode"].total())
    return out


def _counted(layers: int) -> Iterator[tuple[str, Counter]]:
    """The kernels of each graph of a model with so many decoder layers, by operator."""
    from mindspore_osum.models.joined import prepare
    from mindspore_osum.models.target import made_for

    with made_for("Ascend"):
        model = _model(layers)
        yield "forward", _kernels(*_training(model, gradients=False))
        yield "backward", _kernels(*_training(model, gradients=True))
        model.set_train(False)
        yield "decode_adapters", _kernels(*_answering(prepare(model, merge_lora=False))["decode"])
        graphs = _answering(prepare(model))
        for name in ("decode", "prefill"):
            yield name, _kernels(*graphs[name])
        graphs = _answering(prepare(_whisper(layers)))
        for name in ("decode", "prefill"):
            yield f"whisper_{name}", _kernels(*graphs[name])


def _kernels(cell, inputs) -> Counter:
    from mindspore_osum.models.graph_nodes import nodes

    return Counter(node.name for node in nodes(cell, *inputs) if node.has_kernel)


def _model(layers: int):
    """The published structure in small, in training mode."""
    from mindspore_osum.models.dropout import count_dropout

    cfg = preset(PUBLISHED)
    groups = cfg.decoder.n_heads // cfg.decoder.n_kv_heads
    small = {"vocab_size": 512, "d_model": 256, "n_heads": 2 * groups, "n_kv_heads": 2, "d_ff": 512}
    decoder = replace(cfg.decoder, n_layers=layers, **small)
    cfg = replace(cfg, encoder=models.STUB_ENCODER, decoder=decoder, dtype="bfloat16")
    model = system_of(cfg.model_type).build(cfg).set_train(True)
    count_dropout(model, 0, 0)
    return model


def _whisper(layers: int):
    """A Whisper of the published structure in small, with so many decoder layers and one of the encoder."""
    cfg = system_of(preset(WHISPER).model_type).shallow(preset(WHISPER), layers)
    sizes = {"d_model": 256, "n_heads": 4, "d_ff": 512}
    encoder = replace(cfg.encoder, **sizes | {"n_layers": 1})
    cfg = replace(cfg, encoder=encoder, decoder=replace(cfg.decoder, **sizes), dtype="bfloat16")
    return system_of(cfg.model_type).build(cfg).set_train(False)


def _training(model, gradients: bool) -> tuple:
    """The decoder over a packed batch, or the gradients of its adapters, and inputs."""
    import mindspore as ms
    import numpy as np
    from mindspore import ParameterTuple, Tensor, nn, ops

    from mindspore_osum.models.ops import SegmentCausalMask

    class Forward(nn.Cell):
        def __init__(self):
            super().__init__()
            self.decoder, self.mask = model.decoder, SegmentCausalMask()

        def construct(self, x_BLD, positions_BL, segments_BL):
            return self.decoder(x_BLD, positions_BL, self.mask(segments_BL))

    class Backward(nn.Cell):
        def __init__(self):
            super().__init__()
            self.forward, self.grad = Forward(), ops.GradOperation(get_all=True, get_by_list=True)
            named = model.decoder.parameters_and_names()
            self.learned = ParameterTuple([param for name, param in named if "lora" in name])

        def construct(self, x_BLD, positions_BL, segments_BL):
            return self.grad(self.forward, self.learned)(x_BLD, positions_BL, segments_BL)

    ints = Tensor(np.ones((ROWS, PROMPT), np.int32))
    x_BLD = Tensor(np.ones((ROWS, PROMPT, model.decoder.d_model)), ms.bfloat16)
    return (Backward() if gradients else Forward()).set_train(True), (x_BLD, ints, ints)


def _answering(model) -> dict[str, tuple]:
    """The graphs of answers, and inputs; without a recording if the model can do without."""
    from mindspore_osum.bench.decode import prompt_of
    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.systems.prompt import Prompt

    generator, cfg = Generator(model), model.cfg
    prefill, step, _ = generator._graphs(ROWS, SLOTS)
    prompt = Prompt(prompt_of(cfg.decoder, PROMPT))
    if generator.parts.rules is not None:  # a Whisper, whose prompts are of recordings
        prompt = system_of(cfg.model_type).example(cfg, cfg.most_frames, 0)
    return {
        "prefill": (prefill.cell, generator._inputs([prompt] * ROWS, ROWS, PROMPT)),
        "decode": (step.cell, generator.step_inputs(ROWS)),
    }
