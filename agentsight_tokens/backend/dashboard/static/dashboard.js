"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = new Map();

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const UNITS = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]];
  const short = (value) => {
    for (const [size, unit] of UNITS) {
      if (Math.abs(value) >= size) return `${+(value / size).toPrecision(3)}${unit}`;
    }
    return `${+value.toPrecision(3)}`;
  };
  const axisText = (unit) => (value) => (unit === "usd" ? `$${short(value)}` : short(value));

  const numberOf = (text) => (text === "" ? null : Number(text));

  // A chart is drawn from the table beneath it, so that both say the same.
  const read = (figure) => {
    const table = figure.querySelector("table");
    const names = [...table.querySelectorAll("thead th")].slice(1).map((th) => th.textContent);
    const rows = [...table.querySelectorAll("tbody tr")];
    return {
      names,
      steps: rows.map((row) => row.querySelector("th").textContent),
      values: names.map((_, i) => rows.map((row) => numberOf(row.querySelectorAll("td")[i].dataset.value))),
      texts: names.map((_, i) => rows.map((row) => row.querySelectorAll("td")[i].textContent.trim())),
    };
  };

  const swatch = (figure, i) => `swatch-${figure.dataset.chart === "lines" && i ? 6 : Math.min(i + 1, 6)}`;

  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const stepText = (step) => {
    const [, year, month, day, hour] = /^(\d+)(?:-(\d\d))?(?:-(\d\d))?(?:T(\d\d))?/.exec(step) || [];
    if (hour) return `${hour}:00`;
    if (day) return `${MONTHS[month - 1]} ${Number(day)}`;
    return month ? `${MONTHS[month - 1]} ${year}` : step;
  };

  const rounded = (context, x, y, width, height, radius) => {
    context.beginPath();
    context.roundRect(x, y, width, height, [radius, radius, 0, 0]);
    context.fill();
  };

  const bars = (data) => ({
    hooks: {
      draw: [
        (plot) => {
          const { ctx } = plot;
          const ratio = devicePixelRatio;
          const slot = plot.bbox.width / data.steps.length;
          const width = Math.max(1, Math.min(slot * 0.68, 46 * ratio));
          ctx.save();
          data.steps.forEach((_, step) => {
            const middle = plot.valToPos(step, "x", true);
            let sum = 0;
            const last = data.values.reduce((top, of, i) => (of[step] > 0 ? i : top), -1);
            data.values.forEach((of, i) => {
              if (!(of[step] > 0)) return;
              const bottom = plot.valToPos(sum, "y", true);
              sum += of[step];
              const top = plot.valToPos(sum, "y", true);
              ctx.fillStyle = colour(`--series-${Math.min(i + 1, 6)}`);
              const height = Math.max(bottom - top, ratio);
              const radius = i === last ? Math.min(3 * ratio, width / 3, height) : 0;
              rounded(ctx, middle - width / 2, bottom - height, width, height, radius);
            });
          });
          ctx.restore();
        },
      ],
    },
  });

  const tip = (data, figure) => {
    const box = element("div", "chart-tip");
    return {
      hooks: {
        init: [(plot) => plot.over.append(box)],
        setCursor: [
          (plot) => {
            const { left, idx } = plot.cursor;
            box.classList.toggle("is-shown", idx !== null && left >= 0);
            if (idx === null || left < 0) return;
            const head = element("p", "tip-head");
            head.append(element("b", "", data.steps[idx]));
            const isLines = figure.dataset.chart === "lines";
            const lines = data.names
              .map((name, i) => [name, i])
              .filter(([, i]) => (isLines ? data.values[i][idx] !== null : data.values[i][idx] > 0));
            box.replaceChildren(
              head,
              ...(isLines ? lines : lines.reverse()).map(([name, i]) => {
                const line = element("p");
                line.append(element("i", swatch(figure, i)), element("b", "", name), element("span", "figure", data.texts[i][idx]));
                return line;
              }),
            );
            if (!lines.length) box.append(element("p", "muted", figure.dataset.unit === "usd" ? "nothing spent" : "nothing"));
            const x = plot.valToPos(idx, "x");
            const isRight = x > plot.over.clientWidth / 2;
            const shift = isRight ? x - box.offsetWidth - 14 : x + 14;
            box.style.transform = `translate(${Math.max(0, Math.round(shift))}px, 4px)`;
          },
        ],
      },
    };
  };

  const draw = (figure) => {
    const place = figure.querySelector(".chart-plot");
    const legend = figure.querySelector(".chart-legend");
    const data = read(figure);
    charts.get(figure)?.destroy();
    legend.replaceChildren(
      ...data.names.map((name, i) => {
        const key = element("span");
        key.append(element("i", swatch(figure, i)), element("b", "", name));
        return key;
      }),
    );
    const isLines = figure.dataset.chart === "lines";
    const sums = data.steps.map((_, step) => data.values.reduce((sum, of) => sum + of[step], 0));
    const strokes = [colour("--series-1"), colour("--series-6")];
    const lines = data.names.map((label, i) => ({
      label,
      stroke: strokes[i],
      width: 2 - i * 0.5,
      dash: i ? [5, 4] : [],
      fill: i ? undefined : `color-mix(in srgb, ${strokes[0]} 12%, transparent)`,
      points: { show: false },
    }));
    const axis = { stroke: colour("--muted"), ticks: { show: false }, font: `12px ${colour("--font")}` };
    const text = axisText(figure.dataset.unit);
    const plot = new uPlot(
      {
        width: place.clientWidth,
        height: place.clientHeight,
        padding: [10, 4, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { setScale: false, x: false, y: false } },
        scales: {
          x: { time: false, range: [-0.5, data.steps.length - 0.5] },
          y: { range: (_, low, top) => [Math.min(0, low) * 1.06, top > 0 ? top * 1.06 : 1] },
        },
        axes: [
          {
            ...axis,
            grid: { show: false },
            gap: 8,
            size: 30,
            space: 64,
            incrs: [1, 2, 5, 7, 10, 14, 20, 30, 60, 100],
            values: (_, places) => places.map((i) => (Number.isInteger(i) && data.steps[i] ? stepText(data.steps[i]) : "")),
          },
          {
            ...axis,
            grid: { stroke: colour("--line"), width: 1 },
            gap: 8,
            space: 44,
            size: (self, values) => 14 + 7.5 * Math.max(3, ...(values || []).map((v) => v.length)),
            values: (_, places) => places.map(text),
          },
        ],
        series: [{}, ...(isLines ? lines : [{ label: "sum", stroke: "transparent", points: { show: false } }])],
        plugins: [...(isLines ? [] : [bars(data)]), tip(data, figure)],
      },
      [data.steps.map((_, i) => i), ...(isLines ? data.values : [sums])],
      place,
    );
    charts.set(figure, plot);
  };

  const drawAll = () => {
    for (const [figure, plot] of charts) {
      if (!figure.isConnected) {
        plot.destroy();
        charts.delete(figure);
      }
    }
    document.querySelectorAll("figure[data-chart]").forEach(draw);
  };

  const resized = new ResizeObserver(() => {
    for (const [figure, plot] of charts) {
      const place = figure.querySelector(".chart-plot");
      if (place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: place.clientHeight });
    }
  });

  const toggleTheme = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `agentsight_theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Strict${secure}`;
    drawAll();
  };

  const closeOthers = (event) => {
    document.querySelectorAll("details.popover[open]").forEach((each) => {
      if (!each.contains(event.target)) each.open = false;
    });
  };

  const copy = async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  };

  // Each digit of a date may make a date of its own: dates that are typed are asked for when they are left.
  let isTyping = false;
  const isDate = (target) => target?.type === "date";
  const askFor = (form) => {
    isTyping = false;
    const dates = [...form.elements].filter(isDate);
    if (dates.some((date) => date.value !== date.defaultValue)) form.dispatchEvent(new Event("change"));
  };
  const watchDates = () => {
    const on = (name, act) => {
      document.addEventListener(name, (event) => { if (isDate(event.target)) act(event); }, { capture: true });
    };
    on("pointerdown", () => { isTyping = false; });
    on("keydown", ({ key, target }) => {
      if (key === "Enter") askFor(target.form);
      else isTyping = true;
    });
    on("change", (event) => { if (isTyping) event.stopPropagation(); });
    on("focusout", ({ target, relatedTarget }) => { if (!isDate(relatedTarget)) askFor(target.form); });
  };

  // An answer is dropped when more was asked for since: the form that asks next would go with it.
  const watchAnswers = () => {
    let isOutdated = false;
    const on = (name, act) => {
      document.addEventListener(name, (event) => { if (event.detail.target.id === "main") act(event); });
    };
    on("htmx:confirm", () => { isOutdated = true; });
    on("htmx:beforeRequest", () => { isOutdated = false; });
    on("htmx:beforeOnLoad", (event) => { if (isOutdated) event.preventDefault(); });
  };

  const prepare = () => {
    // Only https and localhost give pages the clipboard.
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
    const zones = document.querySelector("#zones");
    if (zones && !zones.children.length && Intl.supportedValuesOf) {
      const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
      for (const name of new Set([here, "UTC", ...Intl.supportedValuesOf("timeZone")])) {
        zones.append(Object.assign(element("option"), { value: name }));
      }
    }
    drawAll();
  };

  const start = () => {
    const narrow = matchMedia("(max-width: 860px)");
    const menu = document.querySelector("details.menu");
    const fold = () => { if (menu) menu.open = !narrow.matches; };
    fold();
    narrow.addEventListener("change", fold);
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.hidden = false;
      button.addEventListener("click", toggleTheme);
    }
    dark.addEventListener("change", drawAll);
    document.addEventListener("click", closeOthers);
    document.addEventListener("click", copy);
    document.addEventListener("focusin", (event) => {
      if (event.target.matches("[data-select]")) event.target.select();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      document.querySelectorAll("details.popover[open]").forEach((each) => {
        each.open = false;
        each.querySelector("summary").focus();
      });
    });
    watchDates();
    watchAnswers();
    document.addEventListener("htmx:afterSettle", prepare);
    prepare();
    resized.observe(document.body);
  };
  start();
})();
