"""Cross-entropy, shared by all systems.

Legend: B rows, M positions that are predicted, V vocabulary.
"""

import mindspore as ms
from mindspore import ops

from mindspore_osum.models.ops import log_sum_exp

IGNORE = -100  # label of a position without a target


def token_losses(logits_BMV, labels_BM):
    """Cross-entropy of each label (0 for IGNORE), and 1.0 for each label that counts, both float32 (B, M)."""
    count_BM = ops.cast(labels_BM != IGNORE, ms.float32)
    safe_BM1 = ops.maximum(labels_BM, 0).expand_dims(-1)
    picked_BM = ops.gather_elements(logits_BMV, -1, safe_BM1).squeeze(-1)
    return (log_sum_exp(logits_BMV) - picked_BM) * count_BM, count_BM
