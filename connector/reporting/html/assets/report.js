"use strict";
// Draws what stands in the page's JSON; the page is whole without it, but for the pictures.
(() => {
  const sections = [...document.querySelectorAll(".connection")];
  const all = JSON.parse(document.getElementById("charts").textContent);
  const drawn = new Map();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const month = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const isDay = (label) => /^\d{4}-\d\d-\d\d$/.test(label);
  const shown = (label) => (isDay(label) ? month.format(new Date(label)) : label);
  const dashes = [[], [6, 4], [2, 3], [10, 4]];

  function dataset(chart, series) {
    const own = colour(`--c${series.colour % 8}`);
    if (chart.kind !== "line") {
      return { label: series.name, data: series.values, backgroundColor: own, borderColor: colour("--card"), borderWidth: chart.kind === "stack" ? 0.5 : 0, maxBarThickness: 36 };
    }
    return {
      label: series.name, data: series.values, borderColor: own, backgroundColor: own, borderWidth: 2,
      borderDash: series.dashed ? dashes[1] : dashes[0], pointRadius: chart.labels.length > 40 || series.dashed ? 0 : 2, spanGaps: true, tension: 0,
    };
  }

  function config(chart) {
    const across = chart.kind === "share";
    const ink = colour("--ink"), line = colour("--line");
    const ticks = { color: ink, font: { size: 11 } };
    const labels = { ...ticks, maxRotation: 0, autoSkip: !across, autoSkipPadding: 12, callback(value) { return shown(this.getLabelForValue(value)); } };
    const values = { ...ticks, precision: chart.kind === "line" ? undefined : 0, callback: (value) => number.format(value) };
    const of = { title: { display: !across, text: chart.unit, color: ink, font: { size: 11 } }, grid: { color: line }, border: { color: line }, stacked: chart.kind === "stack", beginAtZero: true, ticks: values };
    const over = { grid: { display: false }, border: { color: line }, stacked: chart.kind === "stack", ticks: labels };
    if (across) { of.max = 100; of.ticks.callback = (value) => `${value} %`; }
    return {
      type: chart.kind === "line" ? "line" : "bar",
      data: { labels: chart.labels, datasets: chart.series.map((series) => dataset(chart, series)) },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, indexAxis: across ? "y" : "x",
        interaction: { mode: "index", intersect: false, axis: across ? "y" : "x" },
        scales: across ? { x: of, y: over } : { x: over, y: of },
        plugins: {
          legend: { display: chart.series.length > 1, position: "bottom", labels: { color: ink, boxWidth: chart.kind === "line" ? 28 : 12, boxHeight: chart.kind === "line" ? 0 : 12, padding: 8, font: { size: 11 } } },
          tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${number.format(item.raw)} ${chart.unit}` }, filter: (item) => Boolean(item.raw) },
        },
      },
    };
  }

  const canvasOf = (section, chart) => document.getElementById(`${section.dataset.connection}-${chart.name}`);

  function draw(section) {
    for (const chart of all[sections.indexOf(section)]) {
      const canvas = canvasOf(section, chart);
      drawn.get(canvas)?.destroy();
      drawn.set(canvas, new Chart(canvas, config(chart)));
    }
  }

  const redraw = () => sections.filter((section) => section.open).forEach(draw);
  const isDrawn = (section) => all[sections.indexOf(section)].every((chart) => drawn.has(canvasOf(section, chart)));

  sections.forEach((section) => section.addEventListener("toggle", () => {
    if (section.open && !isDrawn(section)) draw(section);
  }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // On paper everything is open and light; pictures are drawn as wide as they will be there.
  let closed = [];
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.scheme = "print";
    closed = sections.filter((section) => !section.open);
    closed.forEach((section) => { section.open = true; });
    redraw();
    drawn.forEach((chart) => chart.resize(330, 190));
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.scheme;
    closed.forEach((section) => { section.open = false; });
    redraw();
    drawn.forEach((chart) => chart.resize());
  });
  redraw();
})();
