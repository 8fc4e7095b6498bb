// Charts as SVG. Colours are attributes and no inline styles, as the page's policy wants it.

const SVG = "http://www.w3.org/2000/svg";

function draw(box, width, height, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  box.replaceChildren(svg);
  return (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    svg.append(element);
  };
}

/** Return a number in four significant digits. */
export const short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
};

const COLOURS = { red: "#c62828", green: "#2e7d32", blue: "#1565c0" };

/** Draw the histograms of one or three bands. */
export function histogram(box, bands, parts) {
  const label = `Histogram of ${bands.join(", ")}`;
  const add = draw(box, 64, 100, label);
  const most = Math.max(1, ...parts.flatMap((part) => part.counts));
  parts.forEach((part, i) => {
    const colour = COLOURS[bands[i]] ?? "#0b5cad";
    const points = part.counts.flatMap((n, x) => [`${x},${100 - (97 * n) / most}`, `${x + 1},${100 - (97 * n) / most}`]);
    add("polygon", { points: `0,100 ${points.join(" ")} 64,100`, fill: colour, "fill-opacity": parts.length > 1 ? 0.35 : 0.7 });
  });
}

/** Draw how often a measured and a synthetic value meet. */
export function scatter(box, about) {
  const size = about.counts.length;
  const add = draw(box, size, size, `Synthetic over measured ${about.band}: r ${short(about.r)}`);
  const most = Math.log1p(Math.max(...about.counts.flat()));
  about.counts.forEach((row, y) =>
    row.forEach((n, x) => {
      if (!n) return;
      const share = Math.log1p(n) / most;
      add("rect", { x, y: size - 1 - y, width: 1.02, height: 1.02, fill: "#0b5cad", "fill-opacity": 0.15 + 0.85 * share });
    }),
  );
  add("line", { x1: 0, y1: size, x2: size, y2: 0, stroke: "#c62828", "stroke-width": 0.4 });
}
