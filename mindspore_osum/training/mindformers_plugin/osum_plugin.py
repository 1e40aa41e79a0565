"""What a run's mindformers.yaml names as `auto_register`; importing it registers our other classes, too."""

from mindspore_osum.training.mindformers_job import register
from mindspore_osum.training.registered import OsumData, OsumRun

__all__ = ["OsumData", "OsumRun"]
register(OsumData, OsumRun)
