"""PyTorch in MSAdapter's place, so that vLLM-MindSpore can be imported where MSAdapter is not to be had.

MSAdapter gives PyTorch's interface on MindSpore's tensors; PyPI does not have the release that vLLM-MindSpore
0.5.1 needs. With this module `import vllm_mindspore` runs its own code: it changes vLLM and has its registry,
layers and loaders. What computes on tensors of vLLM's own is PyTorch's then, and is not tested here.
"""

import sys

import torch

# vLLM-MindSpore's platform names a compiler that PyTorch does not have
torch.compile = lambda model=None, **settings: model if model is not None else (lambda function: function)
torch.utils.rename_privateuse1_backend("npu")  # devices have names, though no such device is there
sys.modules[__name__] = torch
