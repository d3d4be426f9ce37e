"""One table gives Markdown and the columns of a terminal."""

from veriserum_hf.core import Table

MEASURED = Table(["implant", "frames", "error, mm"], [["femur", 12, "0.31"], ["tibia", 7, "10.20"]], note="Medians.")


def test_markdown_names_the_columns_aligns_numbers_right_and_ends_with_the_note():
    assert MEASURED.markdown() == (
        "| implant | frames | error, mm |\n|---|---:|---:|\n| femur | 12 | 0.31 |\n| tibia | 7 | 10.20 |\n\nMedians."
    )


def test_a_cell_does_not_end_at_its_own_bar_or_line_break():
    assert Table(["file"], [["a|b\nc"]]).markdown() == "| file |\n|---|\n| a\\|b c |"


def test_columns_of_a_terminal_are_as_wide_as_their_cells():
    assert MEASURED.text() == (
        "implant  frames  error, mm\nfemur        12       0.31\ntibia         7      10.20\n\nMedians."
    )


def test_a_table_may_have_no_header_and_text_alone():
    facts = Table([], [["trials", "8"], ["poses by kind", "refined 16"]], alignment="l")
    assert facts.text() == "trials         8\nposes by kind  refined 16"
    assert facts.alignments() == ["left", "left"]
    assert facts.markdown().splitlines()[:2] == ["| | |", "|---|---|"]


def test_a_table_may_have_no_rows():
    assert Table(["a", "b"], []).markdown() == "| a | b |\n|---|---:|"
    assert Table(["a", "b"], []).text() == "a  b"
    assert Table([], []).text() == ""
