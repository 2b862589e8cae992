"""How every figure looks. Colours are Okabe and Ito's, which colour-blind people tell apart.

Ink and grid lines are left to page.js, which takes them from the page's style sheet: it knows whether it is dark.
"""

from __future__ import annotations

import html
from typing import Any, Final

import plotly.graph_objects as go

BLUE: Final = "#2b7bba"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
ORANGE: Final = "#e69f00"
VERMILLION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"
YELLOW: Final = "#d9cb2b"
GREY: Final = "#8b929c"
FAINT: Final = "rgba(139,146,156,0.22)"
FAULTY: Final = "rgba(204,121,167,0.45)"

SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, GREY)

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"


def figure(*, height: int, x_title: str, y_title: str = "", **layout: Any) -> go.Figure:
    """An empty figure in the house's look; `layout` adds to plotly's layout."""
    made = go.Figure()
    made.update_layout(
        template=None,
        height=height,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        font={"family": _FONT, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": {"family": _FONT, "size": 13}, "align": "left"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "font": {"size": 12}},
        hovermode="closest",
    )
    axis = {"automargin": True, "zeroline": False, "ticks": "", "tickfont": {"size": 12}}
    made.update_xaxes(title={"text": x_title, "font": {"size": 12}, "standoff": 8}, showgrid=False, **axis)
    made.update_yaxes(title={"text": y_title, "font": {"size": 12}, "standoff": 8}, ticklabelstandoff=6, **axis)
    made.update_layout(**layout)
    return made


def label(text: str, chars_max: int = 160) -> str:
    """A text from outside, for a figure: plotly reads its texts as a kind of HTML."""
    short = text if len(text) <= chars_max else text[: chars_max - 1] + "…"
    return html.escape(" ".join(short.split()))
