"""The functions of the PyTorch side. Arrays are exchanged as .npy files."""

import time

import numpy as np
import torch


def timed(work) -> dict:
    """Run it once; seconds and cores used."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cores": (time.process_time() - cpu) / seconds}


class Sides:
    """State of the process: the models that were loaded."""

    # --- encoder: transformers' Whisper with sdpa

    def load_encoder(self, folder: str) -> dict:
        """Whisper's encoder from a Hugging Face folder."""
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config = WhisperConfig.from_pretrained(folder, attn_implementation="sdpa")
        self.encoder = WhisperEncoder(config).eval()
        self.encoder.load_state_dict(_weights(folder, "encoder."))
        return {}

    def encode(self, mel: str = "", out: str = "") -> dict:
        """30 s of log-mel (T, F) from a file, or the previous ones."""
        if mel:
            self.mel_1FT = torch.from_numpy(np.load(mel).T.copy())[None]
        with torch.inference_mode():
            done = timed(lambda: setattr(self, "encoded", self.encoder(self.mel_1FT).last_hidden_state))
        if out:
            np.save(out, self.encoded[0].numpy())
        return done

    # --- decoder: transformers' Llama

    def load_decoder(self, folder: str) -> dict:
        """A decoder from a Hugging Face folder."""
        from transformers import AutoModelForCausalLM

        self.decoder = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.decoder.generation_config.eos_token_id = None
        self.decoder.generation_config.pad_token_id = 0
        return {}

    def generate(self, ids: list[int], count: int, rows: int = 1) -> dict:
        """`count` greedy tokens after `ids`, with transformers' generate."""
        ids_BL = torch.tensor([ids] * rows)
        mask_BL = torch.ones_like(ids_BL)
        found = []

        def work():
            found.append(
                self.decoder.generate(
                    ids_BL, attention_mask=mask_BL, max_new_tokens=count, do_sample=False, use_cache=True
                )
            )

        with torch.inference_mode():
            done = timed(work)
        return {**done, "tokens": found[0][0, len(ids) :].tolist()}

    def prefill(self, ids: list[int]) -> dict:
        """Read a prompt: its cache, and the scores of the first new token."""
        ids_1L = torch.tensor([ids])
        with torch.inference_mode():
            return timed(lambda: self.decoder(ids_1L, use_cache=True, logits_to_keep=1))

    def product(self, shape: list[int]) -> dict:
        """x W^T for x of shape[:2] and W of (shape[2], shape[1])."""
        rows, inner, columns = shape
        x, w = torch.ones(rows, inner), torch.ones(columns, inner)
        with torch.inference_mode():
            return timed(lambda: x @ w.T)

    # --- training

    def load_training(self, folder: str, batch: str, room: int, optimizer: dict) -> dict:
        """Model, optimizer and batch from files; takes the first step."""
        from mindspore_osum.bench.torch_side.training import Training

        self.training = Training(folder, batch, room, optimizer)
        return {"loss": self.training.step()}

    def train_step(self) -> dict:
        """One step more."""
        return timed(self.training.step)


def _weights(folder: str, prefix: str) -> dict:
    """Tensors of a folder whose names have `prefix` in them, named by what follows it."""
    from safetensors.torch import load_file

    tensors = load_file(f"{folder}/model.safetensors")
    return {name.partition(prefix)[2]: value for name, value in tensors.items() if prefix in name}
