from vireo_serving.server.restarts import MOST, WINDOW_SECONDS, Backoff


def test_pauses_grow_and_then_it_is_one_too_many():
    backoff = Backoff()
    assert [backoff.next_delay(100.0 + n) for n in range(MOST)] == [0, 1, 2, 4, 8]
    assert backoff.next_delay(110.0) is None


def test_a_restart_is_forgotten_after_the_window():
    backoff = Backoff()
    assert backoff.next_delay(0.0) == 0
    assert backoff.next_delay(1.0) == 1
    assert backoff.next_delay(1.0 + WINDOW_SECONDS) == 1
    assert backoff.next_delay(3.0 + 2 * WINDOW_SECONDS) == 0
