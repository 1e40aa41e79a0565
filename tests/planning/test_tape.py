"""Lives of blocks on the tape, by hand."""

from mindspore_osum.planning.operators import Operators
from mindspore_osum.planning.tape import Tape

N, D = 10, 8  # rows and width; float32, so a tensor has 320 bytes
SIZE = N * D * 4


def chain(learns: bool, layers: int = 3, recompute: bool = False) -> Tape:
    """x -> (x W_i) twice a layer -> loss."""
    tape = Tape()
    ops = Operators(tape, 4, fused=False)

    def layer(x):
        return ops.matmul(ops.matmul(x, D, D, learns), D, D, learns)

    x = ops.data(N * D, 4)
    x.grad = True
    for _ in range(layers):
        x = tape.recomputed(layer, x) if recompute else layer(x)
    tape.backward(x)
    return tape


def test_inputs_of_learned_products_are_kept():
    assert chain(learns=True).kept == 6 * SIZE + SIZE  # six inputs, and the output, which the loss reads
    assert chain(learns=False).kept == SIZE


def test_recomputation_keeps_a_layers_input_and_costs_a_forward_pass():
    plain, again = chain(True), chain(True, recompute=True)
    assert again.kept == 3 * SIZE + SIZE
    product = 2 * N * D * D
    assert plain.flops == 3 * 6 * product and again.flops == plain.flops + 6 * product
    assert sum(again.peak().values()) < sum(plain.peak().values())
    assert len(again.weight_grads) == len(plain.weight_grads) == 6


def test_peak_is_the_most_that_lives_at_once():
    tape = Tape()
    a = tape.step("a", [], 100)
    b = tape.step("b", [a], 10)  # a ends here
    tape.step("c", [b], 50)
    assert tape.held() == [100, 110, 60]
    assert sum(tape.peak().values()) == 110


def test_gradients_that_meet_are_added_and_weight_gradients_stay():
    tape = Tape()
    ops = Operators(tape, 4, fused=False)
    x = ops.data(N * D, 4)
    x.grad = True
    y = ops.same("add", x, ops.matmul(x, D, D, True))
    tape.backward(y)
    assert [s.name for s in tape.steps].count("matmul") == 3
    assert len(x.grads) == 2  # the residual's and the product's
    assert tape.weight_grads[0].bytes == D * D * 4
