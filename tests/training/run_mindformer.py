"""What run_mindformer.py of MindFormers' repository does with a YAML file; it is not in the wheel.

python run_mindformer.py --config FILE.yaml --register_path FOLDER
"""

import argparse
import os

parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--register_path")
args = parser.parse_args()
os.environ["REGISTER_PATH"] = args.register_path

from mindformers.core.context import build_context  # noqa: E402
from mindformers.tools.register import MindFormerConfig  # noqa: E402
from mindformers.trainer import Trainer  # noqa: E402
from mindformers.utils.file_utils import set_output_path  # noqa: E402

config = MindFormerConfig(args.config)
set_output_path(config.output_dir)
build_context(config)
Trainer(config).train()
