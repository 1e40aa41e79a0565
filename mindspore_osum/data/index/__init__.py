"""An index: what a scan of training data found, as Parquet, so that no process scans it again."""
