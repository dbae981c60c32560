"""Put a job on a queue.  Yours: give your functions their usual options here.

From Python:      from jiffy import enqueue
                  enqueue(numbers.add, 2, 3)
                  enqueue.options(queue="low", timeout="2m")(numbers.add, 2, 3)
Many at once:     enqueue.many(numbers.add, [(number, 1) for number in range(1000)])
From a shell:     python enqueue.py jobs.numbers.add 2 3 --queue low --wait
"""

from jiffy import enqueue as enqueue
from jiffy import options
from jobs import reports

# A function's usual options, however it is enqueued; what a call gives itself goes first.
OPTIONS = {
    reports.last_day: options(timeout="10m"),
}

if __name__ == "__main__":
    from jiffy.cli import main

    main("enqueue")
