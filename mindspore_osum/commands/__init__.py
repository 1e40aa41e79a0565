"""Verbs of the `osum` command, one file each; imported by cli.py alone."""
