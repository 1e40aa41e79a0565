"""An equal training step in PyTorch: the reference of the model's system, as transformers computes it (sdpa).

Legend: B rows, L positions, M positions with labels, V vocabulary.
"""

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from mindspore_osum.folder import read_config
from mindspore_osum.systems.registry import system_of

IGNORE = -100
LEARN = ("adapter.", "speech_token_embed.")  # and LoRA


class Training:
    """Model, optimizer and batch of a step."""

    def __init__(self, folder: str, batch: str, room: int, optimizer: dict):
        cfg = read_config(folder)
        reference = system_of(cfg.model_type).reference()
        self.model = reference.from_folder(cfg, load_file(f"{folder}/model.safetensors")).train()
        for name, param in self.model.named_parameters():
            param.requires_grad = "lora_" in name or name.startswith(LEARN)
        self.clip = optimizer.pop("clip")
        self.weights = [param for param in self.model.parameters() if param.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, **optimizer)
        arrays = np.load(batch)
        names = ("mel_BTF", "token_ids_BL", "speech_row_BL", "labels_BL")
        columns = [torch.from_numpy(arrays[name]) for name in names]
        *self.inputs, self.labels_BL = (c if c.is_floating_point() else c.long() for c in columns)
        self.room = room

    def loss(self):
        """Mean cross-entropy over the labels, which are in the last `room` positions of each row."""
        mel_BTF, token_ids_BL, speech_row_BL = self.inputs
        x_BLD = self.model.embed(token_ids_BL, speech_row_BL, self.model.encode_speech(mel_BTF))
        hidden_BLD = self.model.hidden_states(x_BLD)
        scores_BMV = self.model.decoder.lm_head(hidden_BLD[:, -self.room - 1 : -1])
        labels = self.labels_BL[:, -self.room :].flatten()
        return functional.cross_entropy(scores_BMV.flatten(0, 1), labels, ignore_index=IGNORE)

    def step(self) -> float:
        """Loss of one step."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimizer.step()
        return float(loss)
