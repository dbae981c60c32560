"""Count the ticks of schedulers to which the worst happens: `python -m bench.schedule`.

First what they cost; then all of them, one after the other, in each scenario.  Exit code 1 if a
tick of ours was lost or doubled.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence

from bench.environments import ROOT
from bench.schedule import cost, report
from bench.schedule.contestants import CONTESTANTS
from bench.schedule.report import Row
from bench.schedule.scenarios import SCENARIOS
from bench.schedule.stage import play

HOME = ROOT / "build" / "schedule"
OURS = "jiffy"


def main() -> int:
    asked = _parser().parse_args()
    shutil.rmtree(HOME, ignore_errors=True)
    names = asked.contestant or list(CONTESTANTS)
    costs = list(_costs(names)) if asked.what != "scenarios" else []
    rows = list(_rows(asked.only or list(SCENARIOS), names)) if asked.what != "cost" else []
    tables = [report.scenarios(rows)] if rows else []
    tables += [report.table(cost.HEADINGS, costs, words=1)] if costs else []
    text = "\n\n".join(tables)
    (HOME / "results.md").write_text(text + "\n")
    print(f"\n{text}\n\nAlso in {HOME.relative_to(ROOT)}/results.md; the logs are beside it")
    ours = [row.count for row in rows if row.contestant == OURS]
    return int(any(count.missing or count.doubled for count in ours))


def _rows(scenarios: Sequence[str], names: Sequence[str]) -> Iterator[Row]:
    for scenario in scenarios:
        for name in names:
            home = HOME / f"{scenario} {name}".replace(",", "").replace(" ", "-")
            home.mkdir(parents=True)
            row = Row(scenario, name, play(CONTESTANTS[name], SCENARIOS[scenario], home))
            print(" | ".join(row.cells()), flush=True)
            yield row


def _costs(names: Sequence[str]) -> Iterator[list[str]]:
    for name in names:
        cells = [name, *cost.measure(CONTESTANTS[name], HOME / f"cost-{name}".replace(" ", "-"))]
        print(" | ".join(cells), flush=True)
        yield cells


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.schedule", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["scenarios", "cost"], help="both, if not given")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="may be repeated")
    parser.add_argument(
        "--contestant", action="append", choices=CONTESTANTS, help="may be repeated"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
