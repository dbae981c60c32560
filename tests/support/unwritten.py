"""The job that a call would be, without Redis."""

from redis import Redis

from jiffy.producer.job import made_of
from jiffy.producer.recipe import rq_now
from jobs import numbers


def job_of(enqueue, function=numbers.add):
    one = enqueue.prepare(function, [2, 3], {})
    return made_of(one.fields(rq_now()), one.job_id, Redis())
