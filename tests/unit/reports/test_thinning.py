import statistics

from hypothesis import given
from hypothesis import strategies as st

from reports.thinning import MOST_MARKS, by_rank, cumulative, in_groups

VALUES = st.lists(st.floats(0, 1e12), min_size=1, max_size=2000)


@given(VALUES)
def test_no_extreme_disappears_and_nothing_is_made_up(values: list[float]) -> None:
    kept = by_rank(values)
    assert len(kept) <= MOST_MARKS
    assert [place for place, _ in kept] == sorted({place for place, _ in kept})
    assert all(values[place] == value for place, value in kept)
    shown = [value for _, value in kept]
    assert (min(shown), max(shown)) == (min(values), max(values))


@given(st.lists(st.floats(0, 1e12), min_size=MOST_MARKS + 1, max_size=2000))
def test_thinned_marks_keep_the_shape(values: list[float]) -> None:
    shown = [value for _, value in by_rank(values)]
    for share in (0.25, 0.5, 0.75):
        value = statistics.quantiles(values, n=4)[round(share * 4) - 1]
        below = statistics.fmean(each < value for each in values)
        not_above = statistics.fmean(each <= value for each in values)
        drawn = statistics.fmean(each <= value for each in shown)
        assert below - 0.03 <= drawn <= not_above + 0.03


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=MOST_MARKS))
def test_few_values_stay(values: list[float]) -> None:
    assert by_rank(values) == list(enumerate(values))
    assert [group.median for group in in_groups(values)] == values
    assert [group.place for group in in_groups(values)] == list(range(len(values)))
    assert len(cumulative(values)) == len(values)


@given(VALUES)
def test_groups_cover_every_value_in_order(values: list[float]) -> None:
    groups = in_groups(values)
    assert len(groups) <= MOST_MARKS
    assert min(group.low for group in groups) == min(values)
    assert max(group.high for group in groups) == max(values)
    assert all(group.low <= group.median <= group.high for group in groups)
    places = [group.place for group in groups]
    assert places == sorted(set(places))
    assert 0 <= places[0] <= places[-1] <= len(values) - 1


@given(VALUES)
def test_a_distribution_ends_at_one_and_tells_true_shares(values: list[float]) -> None:
    steps = cumulative(values)
    assert len(steps) <= MOST_MARKS
    assert steps == sorted(steps)
    assert steps[0][0] == min(values)
    assert steps[-1] == (max(values), 1.0)
    for value, share in steps:
        assert share <= statistics.fmean(each <= value for each in values) + 1e-12
