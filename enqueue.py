"""Put a job on a queue.  Yours: give your functions their usual options here.

From Python:      from enqueue import enqueue
                  enqueue(images.resize, "photo.jpg", 200)
                  enqueue.options(queue="low", timeout="2m")(images.resize, "photo.jpg", 200)
Many at once:     enqueue.many(images.resize, [(path, 200) for path in paths])
From a shell:     python enqueue.py jobs.images.resize photo.jpg 200 150 --queue low --wait
"""

from jiffy import Enqueue, options
from jobs import reports

# A function's usual options, however it is enqueued; what a call gives itself goes first.
OPTIONS = {
    reports.last_day: options(timeout="10m"),
}

enqueue = Enqueue(OPTIONS)

if __name__ == "__main__":
    import sys

    from jiffy.shell import enqueue_command

    sys.exit(enqueue_command(enqueue))
