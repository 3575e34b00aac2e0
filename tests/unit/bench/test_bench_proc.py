"""Reading /proc as text."""

from tests.bench.proc import Stat, parse_peak_kb, parse_stat, tree

STAT = (
    "4242 (postgres: hanse) x (1) S 17 4242 4242 0 -1 4194560 900 12000 3 40 150 50 1200 300 20 0 1 0 88888 "
    "230000000 5000 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0"
)


def test_a_name_with_blanks_and_parentheses_does_not_shift_the_fields():
    assert parse_stat(STAT) == Stat(pid=4242, parent=17, own=200, reaped=1500)


def test_the_peak_is_the_high_water_mark_not_the_present_size():
    assert parse_peak_kb("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t   81920 kB\nVmRSS:\t   40960 kB\n") == 81_920


def test_a_process_without_memory_has_no_peak():
    assert parse_peak_kb("Name:\tkworker\nState:\tI\n") == 0


def test_a_tree_is_its_roots_and_all_below_them_and_nobody_else():
    stats = [Stat(1, 0, 9, 0), Stat(10, 1, 1, 0), Stat(11, 10, 2, 0), Stat(12, 11, 4, 0), Stat(20, 1, 8, 0)]
    assert {stat.pid for stat in tree(stats, [10])} == {10, 11, 12}
    assert {stat.pid for stat in tree(stats, [10, 20])} == {10, 11, 12, 20}
    assert tree(stats, [99]) == []
