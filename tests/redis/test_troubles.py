"""A Redis that cannot be used is an error of ours that names the cause and the setting."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jiffy import enqueue, redis_io
from jobs import numbers
from tests.support.troubles import SECRET, TROUBLES


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.start.__name__)
def test_enqueue_names_the_cause_and_what_helps(trouble, environ, monkeypatch, tmp_path):
    monkeypatch.setattr(redis_io, "PATIENCE_S", 0)
    with trouble.start(tmp_path) as url:
        environ(REDIS_URL=url)
        redis_io.shared.cache_clear()
        with pytest.raises(RedisConnectionError) as error:
            enqueue(numbers.add, 2, 3)
        redis_io.shared.cache_clear()

    said = error.value
    assert type(said) is trouble.error
    assert said.reason.startswith(trouble.reason)
    assert said.remedy.startswith(trouble.remedy)
    assert str(said) == f"No Redis at {said.url} ({said.reason}). {said.remedy}"
    assert said.job_id is None
    assert SECRET not in str(said)
