"""A model as MindIR graphs for deployment: `osum export` writes them, `runner.Exported` answers from them."""
