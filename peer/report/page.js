// Draws the figures that the page carries as JSON, in the ink of the page, and again when it turns dark or light.
"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, responsive: true, displaylogo: false };

  function inked(layout) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const made = structuredClone(layout);
    made.font = { ...made.font, color: color("--ink") };
    made.hoverlabel = { ...made.hoverlabel, bgcolor: color("--card"), bordercolor: color("--line") };
    made.hoverlabel.font = { ...made.hoverlabel.font, color: color("--ink") };
    for (const name of Object.keys(made).filter((key) => /^[xy]axis\d*$/.test(key))) {
      const axis = made[name];
      axis.gridcolor = color("--grid");
      axis.tickfont = { ...axis.tickfont, color: color("--soft") };
      if (axis.title) axis.title.font = { ...axis.title.font, color: color("--soft") };
    }
    for (const note of made.annotations || []) note.font = { ...note.font, color: color("--bad") };
    return made;
  }

  function draw() {
    for (const script of document.querySelectorAll("script[data-figure]")) {
      const figure = JSON.parse(script.textContent);
      Plotly.react(document.getElementById(script.dataset.figure), figure.data, inked(figure.layout), config);
    }
  }

  draw();
  dark.addEventListener("change", draw);
})();
