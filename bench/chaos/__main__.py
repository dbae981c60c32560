"""Do the worst, and count: `python -m bench.chaos [--only NAME] [--worker jiffy|rq] [--seed N]`.

Exit code 1 if a job of ours was lost or got stuck.
"""

import argparse
import random
import shutil
import sys
from dataclasses import asdict, replace

from bench.chaos import report
from bench.chaos.fleet import COMMANDS, ROOT
from bench.chaos.ledger import Row
from bench.chaos.scenarios import SCENARIOS
from bench.chaos.stage import Plan, play

HOME = ROOT / "build" / "chaos"


def main() -> int:
    asked = _parser().parse_args()
    plan = Plan(
        worker="", seconds=asked.seconds, grace_s=asked.grace, freeze_s=asked.freeze,
        deadline_s=asked.deadline, seed=asked.seed, home=HOME,
    )  # fmt: skip
    shutil.rmtree(HOME, ignore_errors=True)
    print(f"seed {asked.seed}; logs in {HOME.relative_to(ROOT)}/", flush=True)
    rows = []
    for name in asked.only or SCENARIOS:
        for worker in asked.worker or COMMANDS:
            row = play(name, SCENARIOS[name], replace(plan, worker=worker))
            rows.append(row)
            print(report.markdown([row], plan.deadline_s).splitlines()[-1], flush=True)
            if asked.verbose or not row.is_safe:
                print(report.details(row), flush=True)
    _write(rows, plan)
    return int(any(row.worker == "jiffy" and not row.is_safe for row in rows))


def _write(rows: list[Row], plan: Plan) -> None:
    table = report.markdown(rows, plan.deadline_s)
    (HOME / "results.md").write_text(table + "\n")
    (HOME / "results.json").write_text(report.as_json(rows, asdict(plan)))
    print(f"\n{table}\n\nAlso in {HOME.relative_to(ROOT)}/results.md and results.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*SCENARIOS], help="may be repeated")
    parser.add_argument("--worker", action="append", choices=[*COMMANDS], help="may be repeated")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--seconds", type=float, default=20, help="of faults, in each scenario")
    parser.add_argument("--grace", type=float, default=4, help="GRACE_S of the workers")
    parser.add_argument("--freeze", type=float, default=20, help="for how long Redis is frozen")
    parser.add_argument("--deadline", type=float, default=60, help="seconds after the last fault")
    parser.add_argument("--verbose", action="store_true", help="say what became of each bad job")
    return parser


if __name__ == "__main__":
    sys.exit(main())
