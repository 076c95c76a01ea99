"""Names of relations and answers that a page must show and never run: markup, quotes, Korean, Arabic, emoji."""

NAMES = ("<script>alert(1)</script>", "관계 & \"id='x'\"", "مقلوب‎")
ANSWERS = ("<img src=x onerror=alert(2)>", "답 😀", "الجواب", "</script><b>", "{{ 7 * 7 }}", 'url(#p) id="q"')
ACTING = ("\x1b[2J\x1b[31mred", "a\rb", "\x9b31m", "\x07bell", "\u202etxt.exe", "\u2066x", "half \ud83d", "\u2028line")
"""Texts that clear a terminal, write over a line, turn what follows around, or fit no encoding."""
