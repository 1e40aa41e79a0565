"""Losses on the tape: cross-entropy (models/ops log_sum_exp) and CTC.

Legend: B rows, U frames, S labels, D width, V vocabulary.
"""

from mindspore_osum.planning.tape import F32, Block, Value

CTC_BLANK = 1


class Losses:
    """Loss part of `Operators`."""

    def token_losses(self, scores: Value, rows: int) -> Value:
        """Cross-entropy of float32 scores, one loss per position."""

        def gradient(dout: Block):
            picked = self.tape.step("scatter", [dout], scores.bytes)
            soft = self.tape.step("softmax", [scores.block], scores.bytes)
            self.table(scores.bytes)
            return [(scores, picked), (scores, self.tape.step("mul", [soft, dout], scores.bytes))]

        self.tape.step("log softmax", [scores.block], scores.bytes)
        return self.tape.op("loss", [scores], rows * F32, gradient)

    def ctc(self, x: Value, d: int, vocab: int, sizes: tuple[int, int, int], learns: bool) -> Value:
        """A head (vocab + blank, D) in float32 on frames (B, U, D), and its loss; sizes = (B, U, S)."""
        n, frames, labels = sizes
        classes, path = vocab + CTC_BLANK, n * frames * (2 * labels + 1) * F32
        x = self.linear_map("cast", x, n * frames * d * F32) if self.width != F32 else x
        flat = self.shifted(self.matmul(x, d, classes, learns, F32), classes, learns)
        log_p = self.transposed(self._log_softmax(flat))
        alpha = self.data(path, 1)

        def gradient(dout: Block):
            return [(log_p, self.tape.step("ctc", [dout, log_p.block, alpha.block], log_p.bytes))]

        return self.tape.op("ctc", [log_p, alpha], n * F32, gradient)

    def _log_softmax(self, x: Value) -> Value:
        out = self.tape.op(
            "log softmax",
            [x],
            x.bytes,
            lambda dout: [(x, self.tape.step("log softmax", [dout, out.block], x.bytes))],
        )
        return out
