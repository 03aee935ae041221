"""A run folder whose weights are the mean of several runs' that began as the same weights.

    jaxlm soup runs/lr1 runs/lr3 runs/lr5 --output=runs/soup
    jaxlm soup runs/lr1 runs/lr3 runs/lr5 --output=runs/soup --greedy

All of them, or with --greedy the best and each further one that does not make checkpoint.keep.best_metric worse on the
validation split. What comes out answers and is measured like a run. It is not trained further; init_from takes it.
"""

from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, UserError
from jaxlm.runtime import signals


def main(argv: Sequence[str]) -> int:
    """Averages and writes."""
    parser = table.Parser(__name__, __doc__)
    parser.runs += ["runs"]
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders; the best checkpoint of each")
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="the run folder to make; it must be empty"
    )
    parser.add_argument("--greedy", action="store_true", help="only runs that help on the validation split")
    table.add_recipe(parser)
    options = parser.options(argv)
    signals.end_on_term()

    import jax  # after parsing, so that --help answers at once

    from jaxlm.config import flags
    from jaxlm.data.places import expanded
    from jaxlm.evaluate import of_run
    from jaxlm.exchange import soup
    from jaxlm.partition import mesh as meshes
    from jaxlm.run.program import Program

    flags.named_recipe(options.recipe, *options.runs)
    found = soup.opened(options.runs, print)
    run = found[0].run
    assert run is not None
    mesh = meshes.make(run.mesh)
    with jax.set_mesh(mesh):
        program = Program.of(run, mesh)
        trees, names = [soup.weights(one, program.state.params) for one in found], options.runs
        made = soup.mean(trees)
        if options.greedy:
            measured = of_run.of_weights(program, {}, "validation", run.evaluation.rows, print)

            def score(weights: object) -> float:
                metrics, keep = measured(weights), run.checkpoint.keep
                if keep.best_metric not in metrics:
                    raise UserError(
                        f"{keep.best_metric} is not measured; known: {', '.join(sorted(metrics))}."
                    )
                return keep.score(metrics)

            made, names = soup.greedy(trees, options.runs, score, print)
        soup.write(expanded(options.output), expanded(options.runs[0]), program, found[0], made, names, print)
    print(f"the mean of {len(names)} of {len(found)} runs is in {options.output}: {', '.join(names)}")
    print(f'what to type next:\n  jaxlm predict --run={options.output} "a text"')
    print(f"  jaxlm evaluate --run={options.output} --split=validation")
    return EXIT_DONE


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
