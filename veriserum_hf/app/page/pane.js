// One image with outlines over it. Pixels of an image are those of its camera: integers are centres of pixels.

const OWN = "#39d98a";
const DASHES = [[], [10, 6], [5, 5], [2, 4], [2, 2]];
const CLOSE_UP = 40; // times, at most

export class Pane {
  constructor(plane, actions) {
    this.plane = plane;
    this.actions = actions;
    this.element = document.createElement("div");
    this.element.className = "pane";
    this.element.dataset.plane = plane;
    this.image = document.createElement("canvas");
    this.lines = document.createElement("canvas");
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = plane;
    this.nothing = document.createElement("div");
    this.nothing.className = "nothing";
    this.element.append(this.image, this.lines, name, this.nothing);
    this.bitmap = null;
    this.size = null; // columns, rows and aspect of the plane's image
    this.view = null; // scale and offset, in CSS px
    this.whole = true;
    new ResizeObserver(() => this.resized()).observe(this.element);
    this.listen();
  }

  // What is shown

  async show(size, address, problem) {
    this.size = size;
    this.nothing.textContent = size ? "" : problem || "no image of this plane";
    this.bitmap = null;
    if (!size) {
      this.draw();
      return;
    }
    if (this.whole) this.fit();
    this.draw();
    const image = new Image();
    image.src = address;
    try {
      await image.decode();
    } catch {
      return; // another frame is shown meanwhile
    }
    if (this.size === size) {
      this.bitmap = image;
      this.drawImage();
    }
  }

  filter(text) {
    this.image.style.filter = text;
  }

  fit() {
    if (!this.size || !this.element.clientWidth) return;
    const { columns, rows, aspect } = this.size;
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    const scale = Math.min(width / (columns * aspect), height / rows);
    this.view = { scale, x: (width - columns * aspect * scale) / 2, y: (height - rows * scale) / 2 };
    this.whole = true;
  }

  resized() {
    const ratio = window.devicePixelRatio;
    for (const canvas of [this.image, this.lines]) {
      canvas.width = Math.round(this.element.clientWidth * ratio);
      canvas.height = Math.round(this.element.clientHeight * ratio);
    }
    if (this.whole || !this.view) this.fit();
    this.draw();
  }

  zoom(factor, at) {
    if (!this.view) return;
    const before = this.view.scale;
    const scale = Math.min(Math.max(before * factor, 0.05), CLOSE_UP);
    const by = scale / before;
    this.view = { scale, x: at.x - (at.x - this.view.x) * by, y: at.y - (at.y - this.view.y) * by };
    this.whole = false;
    this.draw();
  }

  // From px of the image to CSS px of the pane, and back

  toPane([column, row]) {
    const { scale, x, y } = this.view;
    return [x + (column + 0.5) * scale * this.size.aspect, y + (row + 0.5) * scale];
  }

  toImage(at) {
    const { scale, x, y } = this.view;
    return [(at.x - x) / (scale * this.size.aspect) - 0.5, (at.y - y) / scale - 0.5];
  }

  // Drawing

  draw() {
    this.drawImage();
    this.drawLines();
  }

  drawImage() {
    const context = this.image.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.image.width, this.image.height);
    if (!this.bitmap || !this.view) return;
    const { scale, x, y } = this.view;
    const ratio = window.devicePixelRatio;
    context.setTransform(ratio * scale * this.size.aspect, 0, 0, ratio * scale, ratio * x, ratio * y);
    context.imageSmoothingEnabled = scale < 6;
    context.drawImage(this.bitmap, 0, 0);
  }

  drawLines() {
    const context = this.lines.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.lines.width, this.lines.height);
    if (!this.size || !this.view) return;
    const ratio = window.devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const { contours, color, dash, width } of this.actions.outlines(this.plane)) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.setLineDash(DASHES[dash] ?? []);
      context.beginPath();
      for (const contour of contours) {
        contour.forEach((px, number) => {
          const [x, y] = this.toPane(px);
          if (number) context.lineTo(x, y);
          else context.moveTo(x, y);
        });
        context.closePath();
      }
      context.stroke();
    }
    context.setLineDash([]);
    const center = this.actions.center(this.plane);
    if (center) {
      const [x, y] = this.toPane(center);
      context.strokeStyle = OWN;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x - 6, y);
      context.lineTo(x + 6, y);
      context.moveTo(x, y - 6);
      context.lineTo(x, y + 6);
      context.stroke();
    }
  }

  // Mouse

  listen() {
    const element = this.element;
    let dragged = null;
    const at = (event) => {
      const box = element.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    element.addEventListener("pointerenter", () => this.actions.activate(this.plane));
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("pointerdown", (event) => {
      if (!this.view || !this.size || event.button > 2) return;
      this.actions.activate(this.plane);
      document.activeElement?.blur();
      event.preventDefault();
      element.setPointerCapture(event.pointerId);
      if (event.button === 0) {
        const mode = event.shiftKey ? "turn" : event.altKey ? "tilt" : "shift";
        dragged = { mode, name: `${Math.random()}`, from: this.toImage(at(event)) };
      } else {
        dragged = { view: this.view, start: at(event) };
      }
    });
    element.addEventListener("pointermove", (event) => {
      if (!dragged) return;
      if (dragged.view) {
        const { x, y } = at(event);
        this.view = { ...dragged.view, x: dragged.view.x + x - dragged.start.x, y: dragged.view.y + y - dragged.start.y };
        this.whole = false;
        this.draw();
      } else {
        this.actions.drag({ plane: this.plane, ...dragged, to: this.toImage(at(event)) }, event.timeStamp);
      }
    });
    const end = () => {
      if (dragged && !dragged.view) this.actions.drop(dragged.name);
      dragged = null;
    };
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
    element.addEventListener("dblclick", () => {
      this.fit();
      this.draw();
    });
    element.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey) {
          this.zoom(Math.exp(-event.deltaY / 300), at(event));
        } else {
          const turn = event.deltaY || event.deltaX; // browsers scroll sideways with Shift
          if (turn) this.actions.wheel({ plane: this.plane, mm: Math.sign(turn) * (event.shiftKey ? -0.1 : -1) });
        }
      },
      { passive: false },
    );
  }
}
