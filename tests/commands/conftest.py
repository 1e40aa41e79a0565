"""What verbs are asked with: the small model of `inference`, the judge and the manifests of `evaluation`."""

from tests.evaluation.conftest import chat_server, write_lines  # noqa: F401
from tests.inference.conftest import model, model_folder  # noqa: F401
