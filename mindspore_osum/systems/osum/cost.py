"""Operators and memory of OSUM, for the planner; does not import MindSpore. `ops` as in models/cost.py."""

import re

from mindspore_osum.models.adapters.cost import adapter
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.speech_cost import SpeechCost


class OsumCost(SpeechCost):
    """As `SpeechCost`, with learned embeddings around a recording, a CTC head, and heads that are sharded."""

    def adapter(self, ops, x, model: ModelConfig, rows: int, frames: int, learns: bool):
        width = model.decoder.d_model
        return adapter(ops, x, model.adapter, model.encoder.d_model, width, rows, frames, learns)

    def loss(self, ops, job, batch, stage):
        losses, speech = [], None
        if self.hears(batch, stage):
            frames, speech = self.encoded(ops, job.model, batch, job.learn)
            if batch.ctc_labels:
                losses.append(self._ctc(ops, speech if job.ctc_at == "adapter" else frames, job, batch))
        if not job.ctc_only:
            losses.append(self.token_loss(ops, job, batch, speech, stage))
        return losses[0] if len(losses) == 1 else ops.same("add", *losses)

    def joined(self, ops, model: ModelConfig, text, speech, learns: bool):
        marks = ops.rows_of(model.speech_token_num + 2, model.decoder.d_model, 2, learns)
        return super().joined(ops, model, text, ops.concat(marks, speech), learns)

    def _ctc(self, ops, x, job, batch):
        """The CTC head and its loss, on encoder frames or speech tokens."""
        model, frames = job.model, job.model.encoder.frames(batch.frames)
        d = model.encoder.d_model
        if job.ctc_at == "adapter":
            frames, d = model.adapter.tokens(frames), model.decoder.d_model
        sizes = (batch.audio_rows, frames, batch.ctc_labels)
        return ops.ctc(x, d, job.ctc_vocab, sizes, "encoder" in job.learn)

    def extra_shapes(self, job) -> dict[str, tuple[int, ...]]:
        """The CTC head's."""
        if not job.ctc_at:
            return {}
        width = (job.model.decoder if job.ctc_at == "adapter" else job.model.encoder).d_model
        return {"ctc.weight": (job.ctc_vocab + 1, width), "ctc.bias": (job.ctc_vocab + 1,)}

    def loss_values(self, job, model: ModelConfig) -> dict:
        if not job.ctc.weight:
            return {"ctc_only": job.ctc.only}
        return {"ctc_at": job.ctc.at, "ctc_only": job.ctc.only, "ctc_vocab": model.decoder.vocab_size}

    def adapter_outputs(self, model: ModelConfig, frames: int) -> int:
        return model.adapter.tokens(frames) * model.adapter.n_layers

    def head_counts(self, model: ModelConfig) -> list[int]:
        """Sizes that must be divisible by model_parallel."""
        heads = [model.decoder.n_heads, model.decoder.n_kv_heads]
        return [*heads, model.encoder.n_heads, model.adapter.n_heads]

    def depth(self, model: ModelConfig) -> int:
        """Layers that a pipeline divides into stages."""
        return model.decoder.n_layers

    def layer_of(self, name: str, model: ModelConfig) -> int:
        """The decoder layer that decides a parameter's stage: its own, else the first or the last."""
        if number := re.match(r"decoder\.model\.layers\.(\d+)\.", name):
            return int(number[1])
        last = name.startswith(("decoder.lm_head", "decoder.model.norm"))
        return model.decoder.n_layers - 1 if last else 0


COST = OsumCost()
