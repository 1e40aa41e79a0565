"""`osum plan --check-operators`: whether Ascend's documentation allows the operators of a job or a model."""

import json
import sys
from collections.abc import Iterator

from mindspore_osum.errors import UserError


def run(args, cfg, model) -> int:
    """Print a line for each graph, and one for each finding to stderr; 1 if there is any finding.

    Parameters
    ----------
    cfg : the job; None without one.
    model : its model's description.
    """
    from mindspore_osum.ascend.rules import check

    graphs, found = [], []
    for graph in graphs_of(args, cfg, model):
        count = sum(node.has_kernel for node in graph.nodes)
        wrong = check(graph.name, graph.nodes)
        graphs.append({"graph": graph.name, "operators": count, "findings": len(wrong)})
        found += wrong
        if not args.json:
            findings = "1 finding" if len(wrong) == 1 else f"{len(wrong)} findings"
            verdict = findings if wrong else "all within their rules"
            print(f"{graph.name}: {count} operators, {verdict}", flush=True)
            for finding in wrong:
                print(finding, file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps({"graphs": graphs, "findings": list(map(str, found))}, ensure_ascii=False))
    return 1 if found else 0


def graphs_of(args, cfg, model) -> Iterator:
    """The graphs of the job, if there is one, and of answers of its model."""
    from mindspore_osum.ascend import graphs

    if model.dtype == "float32":
        raise UserError(
            "--check-operators: a model in float32 does not use Ascend's own operators; give --dtype bfloat16"
        )
    if cfg:
        yield from graphs.training(cfg, model)
    yield from graphs.inference(model, args.answers)
