// The map: two layers of tiles, a swipe between them, a graticule, a scale bar.
/* global L */

import { ask, query } from "./api.js";

const THUMB = 44; // width of the thumb of the swipe, see style.css
const AT_ONCE = 4; // requests of tiles that are computed: others must get through beside them
const waiting = [];
let running = 0;

async function inTurn(work) {
  if (running >= AT_ONCE) await new Promise((resolve) => waiting.push(resolve));
  else running += 1;
  try {
    return await work();
  } finally {
    // Who waits takes over the turn; nobody comes in between.
    if (waiting.length) waiting.shift()();
    else running -= 1;
  }
}

/** Tiles that are fetched until they are computed, and given up when they leave the view. */
const Tiles = L.GridLayer.extend({
  initialize(path, values, { computed, told, ...options }) {
    L.setOptions(this, options);
    Object.assign(this, { path, values, computed, told });
  },
  createTile(coords, done) {
    const picture = document.createElement("img");
    picture.alt = "";
    picture.control = new AbortController();
    const signal = picture.control.signal;
    const fetched = () =>
      signal.aborted ? null : ask(`tile/${this.path}/${coords.z}/${coords.x}/${coords.y}`, this.values, { signal });
    (this.computed ? inTurn(fetched) : fetched())
      .then(async (answer) => {
        if (!answer) return;
        if (answer.headers.get("x-crossband-far")) this.told({ far: true });
        picture.src = URL.createObjectURL(await answer.blob());
        await picture.decode();
        done(null, picture);
      })
      .catch((error) => {
        if (signal.aborted) return;
        this.told({ error });
        done(error, picture);
      });
    return picture;
  },
});

function forget({ tile }) {
  tile.control.abort();
  if (tile.src) URL.revokeObjectURL(tile.src);
}

export class SceneMap {
  /** `told` is called with {far} or {error}; `moved` after each move; `pointed` with a point of the map. */
  constructor(element, view, { told, moved, pointed }) {
    const mercator = view.kind === "mercator";
    this.crs = mercator ? L.CRS.EPSG3857 : L.CRS.Simple;
    this.view = view;
    this.told = told;
    const [left, bottom, right, top] = view.bounds;
    this.bounds = L.latLngBounds(this.latLng(left, bottom), this.latLng(right, top));
    this.map = L.map(element, {
      crs: this.crs,
      minZoom: mercator ? 0 : -14,
      maxZoom: view.max_zoom,
      zoomAnimation: false,
      fadeAnimation: false,
      attributionControl: false,
    });
    for (const side of ["grid", "left", "right"]) this.map.createPane(side);
    this.map.getPane("grid").style.zIndex = 150;
    this.map.getPane("left").style.zIndex = 250;
    this.map.getPane("right").style.zIndex = 260;
    this.lines = L.layerGroup().addTo(this.map);
    this.layers = {};
    this.position = 0.5;
    this.swiping = true;
    if (mercator) L.control.scale({ imperial: false, maxWidth: 160 }).addTo(this.map);
    else this.addPixelScale();
    this.map.on("move resize zoomend viewreset", () => this.clip());
    this.map.on("moveend", () => {
      this.drawLines();
      moved();
    });
    this.map.on("mousemove click", ({ latlng }) => pointed(this.point(latlng)));
    element.addEventListener("focus", () => element.classList.add("focused"));
    element.addEventListener("blur", () => element.classList.remove("focused"));
  }

  latLng(x, y) {
    return this.crs.unproject ? this.crs.unproject(L.point(x, y)) : this.crs.projection.unproject(L.point(x, y));
  }

  /** Return a place as the server counts: metres of Web Mercator, or pixels. */
  point(latlng) {
    const { x, y } = this.crs.projection.project(latlng);
    return { x, y };
  }

  middle() {
    return this.point(this.map.getCenter());
  }

  /** Return left, bottom, right, top of what is seen, as far as the scene reaches. */
  seen() {
    const shown = this.map.getBounds();
    const [a, b] = [this.point(shown.getSouthWest()), this.point(shown.getNorthEast())];
    const [left, bottom, right, top] = this.view.bounds;
    const part = [Math.max(a.x, left), Math.max(a.y, bottom), Math.min(b.x, right), Math.min(b.y, top)];
    return part[0] < part[2] && part[1] < part[3] ? part : null;
  }

  /** Show the whole scene where its own pixels fit, else its middle at its own pixels. */
  start() {
    const fitting = this.map.getBoundsZoom(this.bounds);
    const zoom = Math.min(Math.max(fitting, this.view.native_zoom), this.view.max_zoom);
    this.map.setView(this.bounds.getCenter(), zoom);
  }

  whole() {
    this.map.fitBounds(this.bounds);
  }

  native() {
    this.map.setZoom(this.view.native_zoom);
  }

  /** Show a layer on one side; the tiles before stay until the new ones are there. */
  show(side, layer, values) {
    const key = `${layer.name}?${query(values)}`;
    const before = this.layers[side];
    if (before?.key === key) return;
    const tiles = new Tiles(layer.name, values, {
      pane: side,
      computed: layer.computed,
      told: this.told,
      maxZoom: this.view.max_zoom,
      minZoom: -20,
      keepBuffer: layer.computed ? 0 : 2,
      updateWhenIdle: layer.computed,
      bounds: this.bounds,
      noWrap: true,
    });
    tiles.on("tileunload", forget);
    // Tiles of the same layer with another stretch stay until these are there; all others go at once.
    let behind = null;
    if (before) {
      behind = before.loaded ? before.tiles : before.behind;
      if (before.name !== layer.name) behind = void behind?.remove();
      if (!before.loaded) before.tiles.remove();
    }
    const made = { key, tiles, behind, name: layer.name, loaded: false };
    this.layers[side] = made;
    tiles.on("load", () => {
      made.loaded = true;
      made.behind?.remove();
      made.behind = null;
    });
    tiles.addTo(this.map);
    this.clip();
  }

  setOpacity(share) {
    this.map.getPane("right").style.opacity = share;
  }

  /** Put the border between the layers; null without one. */
  setSwipe(position) {
    this.swiping = position !== null;
    if (this.swiping) this.position = position;
    return this.clip();
  }

  /** Cut the upper layer at the border; return where that is. */
  clip() {
    const pane = this.map.getPane("right");
    const { x: width, y: height } = this.map.getSize();
    const at = THUMB / 2 + this.position * (width - THUMB);
    if (!this.swiping) {
      pane.style.clip = "";
      return at;
    }
    const { x, y } = this.map.containerPointToLayerPoint([0, 0]);
    pane.style.clip = `rect(${y}px, ${x + width}px, ${y + height}px, ${x + at}px)`;
    return at;
  }

  /** Lines of latitude and longitude, and the outline of the scene. */
  drawLines() {
    this.lines.clearLayers();
    const style = { pane: "grid", weight: 1, color: "#7d8b97", opacity: 0.6, interactive: false };
    L.rectangle(this.bounds, { ...style, fill: false, weight: 2 }).addTo(this.lines);
    if (this.view.kind !== "mercator") return;
    const shown = this.map.getBounds();
    const span = Math.max(shown.getEast() - shown.getWest(), 1e-9);
    const step = 10 ** Math.floor(Math.log10(span / 2));
    const line = (a, b) => L.polyline([a, b], style).addTo(this.lines);
    for (let lng = Math.ceil(shown.getWest() / step) * step; lng < shown.getEast(); lng += step)
      line([shown.getSouth(), lng], [shown.getNorth(), lng]);
    for (let lat = Math.ceil(shown.getSouth() / step) * step; lat < shown.getNorth(); lat += step)
      line([lat, shown.getWest()], [lat, shown.getEast()]);
  }

  /** A scale bar in pixels, for scenes without a place on the earth. */
  addPixelScale() {
    const bar = L.control({ position: "bottomleft" });
    bar.onAdd = () => {
      const box = L.DomUtil.create("div", "leaflet-control-scale");
      const line = L.DomUtil.create("div", "leaflet-control-scale-line", box);
      const fit = () => {
        const perPixel = 2 ** -this.map.getZoom();
        const power = 10 ** Math.floor(Math.log10(160 * perPixel));
        const length = [5, 2, 1].map((n) => n * power).find((n) => n <= 160 * perPixel) ?? power;
        line.style.width = `${length / perPixel}px`;
        line.textContent = `${length} pixels`;
      };
      this.map.whenReady(fit);
      this.map.on("zoomend", fit);
      return box;
    };
    bar.addTo(this.map);
  }

  remove() {
    this.map.remove();
  }
}
