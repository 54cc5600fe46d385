import numpy as np
from vireo_serving.models.cache import _ENTRY, VectorCache


def _vector(value):
    return np.full((1, 4), value, dtype=np.float32)


def test_the_embeddings_used_last_stay():
    cache = VectorCache(2 * (_ENTRY + 1 + 16))
    for key in (b"a", b"b"):
        cache.put(key, _vector(ord(key)))
    assert np.array_equal(cache.get(b"a"), _vector(ord("a")))
    cache.put(b"c", _vector(ord("c")))
    assert cache.get(b"b") is None
    assert np.array_equal(cache.get(b"a"), _vector(ord("a")))
    assert np.array_equal(cache.get(b"c"), _vector(ord("c")))
    assert (cache.hits, cache.misses) == (3, 1)


def test_it_holds_no_batch_alive_and_keeps_nothing_without_room():
    batch = np.zeros((64, 4), dtype=np.float32)
    cache = VectorCache(1 << 20)
    cache.put(b"a", batch[:1])
    batch[:] = 1
    assert not cache.get(b"a").any()
    none = VectorCache(0)
    none.put(b"a", batch[:1])
    assert none.get(b"a") is None
