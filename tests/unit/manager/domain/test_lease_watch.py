"""For how long a manager that stands by has seen the lease unchanged."""

from manager.domain.lease import LeaseRow, LeaseWatch

ROW = LeaseRow("1", 2, "m1", 10)


def test_a_silence_begins_with_the_first_reading_of_a_row_and_ends_with_another() -> None:
    """Before the first reading there is none; a renewal ends it, and a gap between readings has it begin anew."""
    watch = LeaseWatch()
    assert watch.unchanged_for(50.0) == 0.0
    watch.observe(ROW, 100.0)
    watch.observe(ROW, 101.5)
    assert watch.unchanged_for(103.0) == 3.0
    watch.observe(ROW._replace(beat=11), 103.0)
    assert watch.unchanged_for(103.5) == 0.5
    watch.observe(ROW._replace(beat=11), 120.0)
    assert watch.unchanged_for(121.0) == 1.0
