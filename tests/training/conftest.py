"""A run that the tests share, and graphs that their runs share, which are compiled once."""

import pytest
import yaml

from tests.conftest import code_digest
from tests.training.tones import store_run

PATHS = ("output_dir", "strategy_ckpt_save_file", "start")


def without_paths(values):
    """Settings without those that name folders."""
    if isinstance(values, dict):
        return {key: without_paths(value) for key, value in values.items() if key not in PATHS}
    return values


def decides(folder) -> dict:
    """What the graphs of a run follow from besides code, weights' names and shapes: its mindformers.yaml."""
    settings = without_paths(yaml.safe_load((folder / "mindformers.yaml").read_text("utf-8")))
    if settings["lr_schedule"]["kind"] == "inverse_sqrt":  # it knows no end
        del settings["lr_schedule"]["total_steps"]
    return settings


@pytest.fixture(scope="session", autouse=True)
def training_graphs():
    """Keeps the graphs of `run.train` as inference/graph_cache.py keeps those of answers."""
    from mindspore.common import api

    from mindspore_osum.inference import graph_cache
    from mindspore_osum.training import run

    at_work, train, compile_ = [], run.train, api._CellGraphExecutor.compile

    def train_with_kept_graphs(running):
        at_work.append({"settings": decides(running.folder), "code": code_digest(), "cells": set()})
        try:
            return train(running)
        finally:
            at_work.pop()

    def compile_once(executor, cell, *args, **kwargs):
        if not at_work or id(cell) in at_work[-1]["cells"]:
            return compile_(executor, cell, *args, **kwargs)
        at_work[-1]["cells"].add(id(cell))  # this call compiles; with other shapes later ones would
        about = {key: at_work[-1][key] for key in ("settings", "code")}
        inputs = [[list(x.shape), str(x.dtype)] for x in args]
        with graph_cache.kept(cell, about | {"inputs": inputs, "training": cell.training}):
            return compile_(executor, cell, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "train", train_with_kept_graphs)
        patch.setattr(api._CellGraphExecutor, "compile", compile_once)
        yield


@pytest.fixture(scope="session")
def stored_run(training_graphs, once):
    """The folder of `store_run`, for reading."""
    return once("training", store_run)
