"""The folder for `run_mindformer.py --register_path`; MindFormers imports osum_plugin.py by its path."""
