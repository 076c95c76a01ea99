"""Names of relations and answers that a page must show and never run: markup, quotes, Korean, Arabic, emoji."""

NAMES = ("<script>alert(1)</script>", "관계 & \"id='x'\"", "مقلوب‎")
ANSWERS = ("<img src=x onerror=alert(2)>", "답 😀", "الجواب", "</script><b>", "{{ 7 * 7 }}", 'url(#p) id="q"')
