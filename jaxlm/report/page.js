// Values under the pointer. The drawings are complete without this; nothing is fetched, texts are set as text.
"use strict";
(() => {
  const frames = [...document.querySelectorAll(".frame")].map((box) => ({
    box,
    data: JSON.parse(box.querySelector("script").textContent),
    shown: [],
  }));

  const made = (name, text, parent) => {
    const node = document.createElement("span");
    node.className = name;
    node.textContent = text;
    parent.append(node);
    return node;
  };

  // The index of the step that is nearest, in a rising list.
  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle; else high = middle;
    }
    return step - steps[low] <= steps[high] - step ? low : high;
  };

  const isLog = (frame) => frame.box.parentElement.querySelector(".switch")?.checked ?? false;

  const height = (frame, value) => {
    const log = isLog(frame), bounds = log ? frame.data.log : frame.data.linear;
    const [low, high, at] = [...bounds, value].map((v) => (log ? Math.log(v) : v));
    return 100 * (1 - (at - low) / (high - low));
  };

  const written = (value, percent) => {
    if (value === null) return "not finite";
    if (percent) return `${(100 * value).toFixed(2)} %`;
    if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(3);
    return value.toLocaleString("en-US", { maximumSignificantDigits: 5 });
  };

  const clear = () => {
    for (const frame of frames) {
      frame.shown.forEach((node) => node.remove());
      frame.shown = [];
    }
  };

  const hair = (frame, step) => {
    const [low, high] = frame.data.x;
    const node = made("hair", "", frame.box);
    node.style.left = `${(100 * (step - low)) / (high - low)}%`;
    frame.shown.push(node);
  };

  const spots = (frame, step) => {
    const lines = [], [low, high] = frame.data.x;
    for (const one of frame.data.series) {
      if (!one.x.length) continue;
      const k = nearest(one.x, step), value = one.y[k];
      lines.push([one, one.x[k], value]);
      if (value === null || (isLog(frame) && value <= 0)) continue;
      const node = made(`spot c${one.colour}`, "", frame.box);
      node.style.left = `${(100 * (one.x[k] - low)) / (high - low)}%`;
      node.style.top = `${height(frame, value)}%`;
      frame.shown.push(node);
    }
    return lines;
  };

  const several = new Set(frames.flatMap((frame) => frame.data.series.map((one) => one.name))).size > 1;

  const hint = (frame, share, lines) => {
    const node = document.createElement("div");
    node.className = "hint";
    for (const [one, step, value] of lines) {
      const line = document.createElement("div");
      const kind = { train: "training", "held-out": "held out" }[one.kind] ?? "";
      const label = [several ? one.name : "", kind].filter(Boolean).join(", ") || one.metric;
      const left = document.createElement("span"), right = document.createElement("b");
      left.className = `c${one.colour}`;
      left.textContent = `${label} at ${step.toLocaleString("en-US")}`;
      right.textContent = written(value, frame.data.percent);
      line.append(left, right);
      node.append(line);
    }
    if (share < 0.5) node.style.left = `calc(${100 * share}% + 14px)`;
    else node.style.right = `calc(${100 * (1 - share)}% + 14px)`;
    frame.box.append(node);
    frame.shown.push(node);
  };

  for (const frame of frames) {
    frame.box.addEventListener("pointermove", (event) => {
      const place = frame.box.getBoundingClientRect(), [low, high] = frame.data.x;
      const under = low + ((event.clientX - place.left) / place.width) * (high - low);
      const near = frame.data.series.filter((one) => one.x.length).map((one) => one.x[nearest(one.x, under)]);
      clear();
      if (!near.length) return;
      const step = near.reduce((best, one) => (Math.abs(one - under) < Math.abs(best - under) ? one : best));
      frames.forEach((other) => hair(other, step));
      hint(frame, (step - low) / (high - low), spots(frame, step));
    });
    frame.box.addEventListener("pointerleave", clear);
  }
})();
