"""Put a job on a queue.  Yours: give your functions their usual options here.

From Python:      from enqueue import enqueue
                  enqueue(images.resize, "photo.jpg", 200)
                  enqueue.options(queue="low", timeout="2m")(images.resize, "photo.jpg", 200)
From a shell:     python enqueue.py jobs.images.resize photo.jpg 200 150 --queue low --wait
"""

from jiffy import enqueue

__all__ = ["enqueue"]

if __name__ == "__main__":
    import sys

    from jiffy.shell import enqueue_command

    sys.exit(enqueue_command(enqueue))
