"""How sizes and tables read."""

import pytest

from runtime.image.show import amount, table


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1.00 MB"),
        (44_700_000, "44.7 MB"),
        (3 * 10**18, "3000 PB"),
    ],
)
def test_a_size_has_three_digits(size_bytes: int, text: str) -> None:
    assert amount(size_bytes) == text


def test_sizes_stand_to_the_right_and_words_to_the_left() -> None:
    shown = table([("NAME", "SIZE"), ("a", amount(5)), ("longer", amount(44_700_000))])
    assert shown == "NAME       SIZE\na           5 B\nlonger  44.7 MB"
