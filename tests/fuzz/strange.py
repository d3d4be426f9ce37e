"""Texts and numbers that nobody expects in a table."""

STRANGE_TEXT = (
    "[/b]x",
    "[link=file:///etc/passwd]here[/link]",
    "\x1b[2J\x1b[31mred",
    "\x00nothing\x00",
    "a" * 100_000,
    "\u202egnp.exe",
    "line\nline\r\nline",
    "{0} %s ${HOME} `id`",
    "../../../etc/passwd",
    "\ud7ff\U0010ffff",
)
NOT_NUMBERS = (None, "", "x", "NaN", "inf", b"\xff\xfe\x00", "1_0", "\u0661\u0662", "1,5", "0x10", "1e", "--1")
HUGE = (1e20, -1e20, 1e300, -1e308, float("inf"), float("-inf"), 2**62, -(2**63))
