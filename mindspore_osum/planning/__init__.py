"""What a job needs of memory and time on Ascend, before it is run: `osum plan`."""
