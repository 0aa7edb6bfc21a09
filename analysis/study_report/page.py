"""Writes the report as HTML and as Markdown."""

from __future__ import annotations

from pathlib import Path

from analysis import templates
from analysis.charts.html import MAX_BYTES, chart_pictures, page_style, plain_section
from analysis.effects.tables import ANSWERS, EFFECTS
from analysis.study_report.after_the_pick import HOLDOUT_HEADER
from analysis.study_report.content import StudyContent
from analysis.study_report.plots import plot_svg
from trainables.errors import UserError
from trainables.io.files import write_text

HEADERS = {
    "holdout_header": HOLDOUT_HEADER,
    "answers_header": ("hypothesis", *ANSWERS[1:], "what would decide it"),
    "effects_header": tuple(EFFECTS),
}


def as_html(content: StudyContent) -> str:
    """Return the report as one page with its pictures and style, which needs neither network nor script."""
    from markupsafe import Markup

    # matplotlib's own SVG; the texts in it are escaped there
    drawn = {plot.title: Markup(plot_svg(plot)) for plot in (*content.guards, *content.training)}  # noqa: S704
    return templates.html(
        "analysis.study_report",
        "report.html",
        content=content,
        **HEADERS,
        style=page_style(),
        plain=plain_section(content.plain),
        **chart_pictures(content.chart),
        drawn=drawn,
    )


def as_markdown(content: StudyContent) -> str:
    """Return the report as Markdown: every table, without the pictures."""
    return templates.markdown("analysis.study_report", "report.md", content=content, **HEADERS)


def write_report(content: StudyContent, path: Path, form: str) -> None:
    """Write the report as `html` or `markdown`.

    Raises:
        UserError: the file cannot be written, or the page would be larger than 2 MB.
    """
    text = as_html(content) if form == "html" else as_markdown(content)
    if len(text.encode()) > MAX_BYTES:
        raise UserError(f"a report must be under 2 MB, but this one has {len(text.encode()):,} bytes",
                        "report one experiment with fewer arms, or use --format markdown")  # fmt: skip
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"--out must be a file that can be written, but: {error}", "name another one") from error
