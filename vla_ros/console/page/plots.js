// Lines over the last seconds on small canvases.

const SPAN = 30; // s
const MOST = 600; // samples

export class Plot {
  // `names` of the lines; low and high: fixed ends of the axis, or undefined.
  constructor(parent, title, styles, { low, high, digits = 3, limit } = {}) {
    this.styles = styles;
    this.low = low;
    this.high = high;
    this.digits = digits;
    this.limit = limit;
    this.samples = [];
    this.box = document.createElement("div");
    this.box.className = "plot";
    const line = document.createElement("p");
    const name = document.createElement("span");
    name.textContent = title;
    name.title = title;
    this.value = document.createElement("span");
    this.value.className = "value";
    line.append(name, this.value);
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${title} over the last ${SPAN} seconds`);
    this.box.append(line, this.canvas);
    parent.append(this.box);
  }

  // Add one value a line, null for a gap; `now` in s.
  add(now, values, text) {
    this.samples.push([now, ...values]);
    while (this.samples.length > MOST || this.samples[0][0] < now - SPAN) this.samples.shift();
    const shown = values[values.length - 1];
    this.value.textContent = text ?? (shown == null ? "–" : shown.toFixed(this.digits));
  }

  remove() {
    this.box.remove();
  }

  range() {
    let low = this.low ?? Infinity;
    let high = this.high ?? -Infinity;
    for (const [, ...values] of this.samples) {
      for (const value of values) {
        if (value == null) continue;
        if (this.low === undefined) low = Math.min(low, value);
        if (this.high === undefined) high = Math.max(high, value);
      }
    }
    if (!(low <= high)) return [0, 1];
    const least = 1e-3; // a still axis is a flat line, not noise
    if (high - low < least) return [(low + high - least) / 2, (low + high + least) / 2];
    return [low, high];
  }

  draw(now, colors) {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width) return;
    if (this.canvas.width !== Math.round(width * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const [low, high] = this.range();
    const x = (time) => width * (1 - (now - time) / SPAN);
    const y = (value) => 3 + (height - 6) * (1 - (value - low) / (high - low));
    pen.strokeStyle = colors.line;
    pen.lineWidth = 1;
    pen.strokeRect(0.5, 0.5, width - 1, height - 1);
    if (this.limit !== undefined && this.limit >= low && this.limit <= high) {
      pen.strokeStyle = colors.bad;
      pen.beginPath();
      pen.moveTo(0, y(this.limit));
      pen.lineTo(width, y(this.limit));
      pen.stroke();
    }
    this.styles.forEach((style, index) => this.trace(pen, x, y, index + 1, style, colors));
  }

  trace(pen, x, y, column, style, colors) {
    pen.strokeStyle = colors[style];
    pen.lineWidth = 1.6;
    pen.setLineDash(style === "proposed" ? [4, 3] : []);
    pen.beginPath();
    let down = false;
    for (const sample of this.samples) {
      const value = sample[column];
      if (value == null) {
        down = false;
        continue;
      }
      if (down) pen.lineTo(x(sample[0]), y(value));
      else pen.moveTo(x(sample[0]), y(value));
      down = true;
    }
    pen.stroke();
    pen.setLineDash([]);
  }
}

// One plot a name, made when it first appears and taken away when it is gone.
export class PlotSet {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.plots = new Map();
  }

  keep(names) {
    for (const [name, plot] of this.plots) {
      if (!names.includes(name)) {
        plot.remove();
        this.plots.delete(name);
      }
    }
    for (const name of names) if (!this.plots.has(name)) this.plots.set(name, this.make(this.parent, name));
  }

  add(now, name, values, text) {
    this.plots.get(name)?.add(now, values, text);
  }

  draw(now, colors) {
    for (const plot of this.plots.values()) plot.draw(now, colors);
  }
}
