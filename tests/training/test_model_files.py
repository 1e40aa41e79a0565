import numpy as np

from mindspore_osum.training.model_files import weights_digest
from mindspore_osum.weights_io import WeightsWriter, info_of


def model_folder(folder, **over):
    arrays = {"a": np.arange(100_000, dtype=np.float32), "b": np.ones(3, np.float32), **over}
    with WeightsWriter(folder, {name: info_of(values) for name, values in arrays.items()}) as writer:
        for name, values in arrays.items():
            writer.write(name, values)
    return weights_digest(folder)


def test_the_digest_of_a_start_tells_other_weights(tmp_path):
    first = model_folder(tmp_path / "a")
    assert first == model_folder(tmp_path / "same") and len(first) == 16
    others = {"b": np.array([1, 1, 1.0000001], np.float32)}, {"a": np.arange(100_000) * np.float32(1.0001)}
    shapes = {"b": np.ones((3, 1), np.float32)}, {"c": np.zeros(0, np.float32)}
    digests = {model_folder(tmp_path / f"b{i}", **over) for i, over in enumerate((*others, *shapes))}
    assert len(digests) == 4 and first not in digests
