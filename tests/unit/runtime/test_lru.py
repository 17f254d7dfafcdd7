"""Laws of the map of fixed size."""

from hypothesis import given
from hypothesis import strategies as st

from finllm.runtime.lru import LastUsed


@given(st.lists(st.integers(0, 12), max_size=80), st.integers(1, 8))
def test_the_keys_put_last_are_kept_and_what_gives_way_is_counted(
    keys: list[int], most: int
) -> None:
    kept: LastUsed[int, int] = LastUsed(most)
    inside: list[int] = []
    n_gone = 0
    for i, key in enumerate(keys):
        kept.put(key, i)
        inside = [*(k for k in inside if k != key), key]
        n_gone += len(inside) > most
        inside = inside[-most:]
        assert {k for k in range(13) if kept.get(k) is not None} == set(inside)
        assert kept.get(key) == i
    assert (len(kept), kept.n_let_go) == (len(inside), n_gone)
