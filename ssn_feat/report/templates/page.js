"use strict";
// The data are of other people: text goes into the page as text only, and into plotly.js with its tags taken apart.
(() => {
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts-of-all").textContent);
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const short = (text, length) => (text.length <= length ? text : text.slice(0, length - 1) + "…");
  const element = (name, text, properties = {}) =>
    Object.assign(document.createElement(name), text === undefined ? {} : { textContent: text }, properties);
  const many = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  // Charts are never sent to a server.
  const CONFIG = { displaylogo: false, showSendToCloud: false, responsive: true, showTips: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  // Text with terms that are explained when the pointer rests on them.
  const names = Object.keys(facts.terms).sort((a, b) => b.length - a.length).map((name) => name.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  const whole = new RegExp(`(?<![\\w-])(${names.join("|")})(?![\\w-])`, "u");
  function explain(place, text) {
    text.split(whole).forEach((part, i) => place.append(i % 2 ? element("abbr", part, { title: facts.terms[part] }) : part));
    return place;
  }

  // ------------------------------------------------------------------------------------------------ charts

  // BAR: height above the plot that is left to plotly's buttons, so that they cover no data.
  const HEIGHT = 390, SMALL = 246, ROW = 19, MOST_ROWS = 8, BAR = 30;

  // Pixels that the legend below a chart takes: names of one width, as many in a row as fit; none of a single line.
  function legendHeight(traces, layout, width) {
    if (traces.length < 2 || layout.legend) return 0;
    const longest = Math.max(...traces.map((trace) => trace.name.length));
    const across = Math.max(1, Math.floor((width - 80) / (44 + 6.4 * longest)));
    return 6 + ROW * Math.min(MOST_ROWS, Math.ceil(traces.length / across));
  }

  // `below`: pixels for a legend. One of a row or two fits into a chart's height, more make it higher.
  function themed(layout, below = 0) {
    const usual = layout.small ? 24 : 40, foot = below && Math.max(below, usual);
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), tickfont: { size: 11 } };
    const full = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("ink"), family: "system-ui, sans-serif", size: 12 },
      margin: { l: 60, r: 14, t: BAR, b: (layout.small ? 42 : 48) + foot }, height: (layout.small ? SMALL : HEIGHT) + Math.max(0, foot - usual),
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, maxheight: 6 + ROW * MOST_ROWS, font: { size: 11 } },
      hoverlabel: { bgcolor: colour("ground"), bordercolor: colour("line"), font: { color: colour("ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("ink") },
      ...layout,
    };
    delete full.small;
    delete full.title;
    for (const key of Object.keys(full).filter((name) => /^[xy]axis/.test(name))) {
      const title = full[key].title && { standoff: 5, font: { size: 12 }, ...full[key].title };
      full[key] = { ...axis, ...full[key], ...(title ? { title } : {}) };
    }
    return full;
  }

  const groupsOf = (chart) => [...new Set(chart.data.map((trace) => trace.group))];

  // A title, where there are groups of lines a choice of one, and room: what is drawn later moves nothing.
  function prepare(place) {
    const chart = facts.charts[place.dataset.chart], groups = groupsOf(chart);
    const head = element("div", undefined, { className: "row head" });
    head.append(explain(element("h4"), chart.layout.title.text));
    if (groups.length > 1) {
      const select = element("select", undefined, { className: "choice", ariaLabel: chart.choice });
      groups.forEach((group, number) => select.append(element("option", short(group, 40), { value: number })));
      select.addEventListener("change", () => drawChart(place));
      head.append(select);
    }
    const canvas = element("div", undefined, { className: "canvas" });
    place.append(head, canvas);
    place.classList.toggle("small", Boolean(chart.layout.small));
    return canvas;
  }

  const tracesOf = (chart, group) => chart.data.filter((trace) => trace.group === group);
  // Room for the highest legend of any group, before anything is drawn.
  function makeRoom(place, canvas) {
    const chart = facts.charts[place.dataset.chart];
    const heights = groupsOf(chart).map((group) => legendHeight(tracesOf(chart, group), chart.layout, canvas.clientWidth));
    place.below = Math.max(0, ...heights);
    canvas.style.height = `${themed(chart.layout, place.below).height}px`;
  }

  function drawChart(place) {
    const chart = facts.charts[place.dataset.chart];
    const groups = groupsOf(chart);
    const wanted = groups[Number(place.querySelector(".choice")?.value ?? 0)];
    const traces = tracesOf(chart, wanted).map(({ group, ...trace }) => trace);
    Plotly.react(place.querySelector(".canvas"), traces, themed(chart.layout, place.below), CONFIG);
    place.dataset.drawn = "yes";
  }

  // Charts are drawn when they come near the screen.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      watcher.unobserve(entry.target);
      drawChart(entry.target);
    }
  }, { rootMargin: "600px" });
  const places = [...document.querySelectorAll(".chart")];
  places.map((place) => [place, prepare(place)]).forEach(([place, canvas]) => { makeRoom(place, canvas); watcher.observe(place); });

  // ------------------------------------------------------------------------------------------------ theme

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    places.filter((place) => place.dataset.drawn).forEach(drawChart);
    if (chosen !== null) drawTimeline();
  }
  byId("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));

  // ------------------------------------------------------------------------------------------------ list of videos

  let chosen = null, record = null, now = 0, range = [0, 1];
  const videos = facts.index;
  const player = byId("player"), stage = byId("stage"), ruler = byId("ruler"), cursor = byId("cursor"), timeline = byId("timeline");
  const RIGHT = 16;
  const narrow = () => timeline.clientWidth < 600;
  const left = () => (narrow() ? 88 : 128);

  // Of each way to sort: what is beside the id, and in which order.
  function orders() {
    const natural = new Intl.Collator("en", { numeric: true });
    const ids = (a, b) => natural.compare(videos.id[a], videos.id[b]);
    const number = (values, sign) => (a, b) => {
      const [x, y] = [values[a], values[b]];
      return x === null || y === null ? (x === null) - (y === null) || ids(a, b) : sign * (x - y) || ids(a, b);
    };
    const shown = { id: ["id", ids, (i) => String(videos.instances[i])] };
    videos.ap.forEach((values, file) => {
      const say = (i) => (values[i] === null ? "–" : `${(100 * values[i]).toFixed(0)} %`);
      const name = videos.ap.length > 1 ? ` of ${facts.detections[file]}` : "";
      shown[`low${file}`] = [`AP${name}, lowest first`, number(values, 1), say];
      shown[`high${file}`] = [`AP${name}, highest first`, number(values, -1), say];
    });
    shown.long = ["duration", number(videos.duration, -1), (i) => clock(videos.duration[i])];
    shown.many = ["number of instances", number(videos.instances, -1), (i) => String(videos.instances[i])];
    if (videos.ap.length) shown.id[2] = shown.low0[2];
    return shown;
  }

  function clock(seconds) {
    const rest = Math.floor(seconds % 60), minutes = Math.floor(seconds / 60);
    if (minutes < 2) return `${seconds.toFixed(1)} s`;
    const parts = minutes < 60 ? [minutes] : [Math.floor(minutes / 60), String(minutes % 60).padStart(2, "0")];
    return [...parts, String(rest).padStart(2, "0")].join(":");
  }

  let ways = {};
  function fillList() {
    const [, compare, say] = ways[byId("sort").value];
    const text = byId("search").value.trim().toLowerCase();
    const rows = videos.id.map((_, i) => i).filter((i) => videos.id[i].toLowerCase().includes(text)).sort(compare);
    byId("list").replaceChildren(...rows.map((i) => {
      const button = element("button", undefined, { type: "button", title: videos.id[i] });
      button.append(element("span", videos.id[i], { className: "id" }), element("span", say(i), { className: "value" }));
      button.dataset.video = i;
      button.setAttribute("aria-current", String(i === chosen));
      const item = element("li");
      item.append(button);
      return item;
    }));
    const beside = byId("sort").value !== "id" ? ways[byId("sort").value][0].split(",")[0] : videos.ap.length ? "AP" : "instances";
    byId("found").textContent = `${rows.length} of ${many(videos.id.length, "video")}, ${beside}${beside.startsWith("AP") ? ` at tIoU ${facts.tiou}` : ""}`;
    return rows;
  }

  function choose(number, address = true) {
    chosen = number;
    record = JSON.parse(byId(`video-${number}`).textContent);
    range = [0, duration()];
    for (const button of byId("list").querySelectorAll("button")) button.setAttribute("aria-current", String(Number(button.dataset.video) === number));
    byId("name").textContent = videos.id[number];
    const facts_ = [clock(duration()), many(record.truth.length, "instance")];
    record.proposals.forEach((each, i) => facts_.push(`${many(each.number, "proposal")} (${facts.proposals[i]})`));
    byId("facts").textContent = facts_.join(" · ");
    byId("unplayed").hidden = true;
    player.hidden = byId("screen").hidden = !record.source;
    byId("one").classList.toggle("seen", Boolean(record.source));
    if (record.source) player.src = record.source;
    else player.removeAttribute("src");
    if (address) history.replaceState(null, "", `#video=${encodeURIComponent(videos.id[number])}`);
    drawTimeline();
    seek(0);
  }
  player.addEventListener("error", () => {
    if (!player.hasAttribute("src")) return;
    player.hidden = true;
    byId("unplayed").hidden = false;
    byId("unplayed").textContent = `This browser cannot play ${decodeURIComponent(record.source)}.`;
  });

  // ------------------------------------------------------------------------------------------------ timeline

  const duration = () => videos.duration[chosen];
  const overlap = (a, b) => {
    const shared = Math.min(a[1], b[1]) - Math.max(a[0], b[0]);
    return shared > 0 ? shared / (a[1] - a[0] + b[1] - b[0] - shared) : 0;
  };
  // Grey for what meets no instance, teal for what fits one.
  function fitColour(share) {
    const from = colour("density"), mix = (i) => {
      const a = parseInt(from.slice(i, i + 2), 16), b = parseInt("0f9d88".slice(i - 1, i + 1), 16);
      return Math.round(a + (b - a) * share).toString(16).padStart(2, "0");
    };
    return `#${mix(1)}${mix(3)}${mix(5)}`;
  }
  function pack(rows) {  // a lane for each interval so that those of one lane do not overlap
    const free = [], lanes = new Array(rows.length);
    for (const i of rows.map((_, k) => k).sort((a, b) => rows[a][0] - rows[b][0])) {
      let lane = free.findIndex((end) => end <= rows[i][0]);
      if (lane < 0) lane = free.length;
      free[lane] = rows[i][1];
      lanes[i] = lane;
    }
    return [lanes, Math.max(1, free.length)];
  }
  const seconds = (start, end) => `${start.toFixed(2)} – ${end.toFixed(2)} s (${(end - start).toFixed(2)} s)`;

  function bars(rows, axis, style) {  // rows: {start, end, y, height, colour, hover, text}
    return {
      type: "bar", orientation: "h", xaxis: "x", yaxis: axis, hoverinfo: "text", showlegend: false, cliponaxis: true,
      base: rows.map((r) => r.start), x: rows.map((r) => r.end - r.start), y: rows.map((r) => r.y), width: rows.map((r) => r.height),
      marker: { color: rows.map((r) => r.colour), opacity: rows.map((r) => r.opacity ?? 1), line: { color: rows.map((r) => r.edge ?? colour("ground")), width: rows.map((r) => r.edge ? 2 : 0.6) } },
      hovertext: rows.map((r) => r.hover), text: rows.map((r) => r.text ?? ""), textposition: "inside", insidetextanchor: "middle",
      insidetextfont: { color: rows.map((r) => r.ink ?? colour("ink")) }, customdata: rows.map((r) => r.start), ...style,
    };
  }

  function visible() {  // detections of the chosen file that the controls let through, best first
    const found = record.detections[Number(byId("file").value)];
    if (!found) return [];
    const best = found.rows.length ? found.rows[0][3] : 0, least = Number(byId("least").value) / 100;
    return found.rows.filter((row) => (row[3] >= least * best || best <= 0) && (row[4] || byId("misses").checked));
  }

  // Parts of the timeline from top to bottom: each has a height in pixels, the name of its row and what it draws.
  function parts() {
    const truth = record.truth.map(([label, start, end]) => ({ label, start, end }));
    const [lanes, count] = pack(truth.map((t) => [t.start, t.end]));
    const shown = [];
    shown.push({
      name: "truth", height: 26 * count, top: count, traces: (axis) => [bars(truth.map((t, i) => ({
        ...t, y: count - lanes[i] - 0.5, height: 0.84, colour: facts.colours[t.label], ink: facts.inks[t.label],
        text: plain(short(facts.labels[t.label], 24)), hover: `truth: ${plain(facts.labels[t.label])}<br>${seconds(t.start, t.end)}`,
      })), axis)],
    });
    if (record.actionness) shown.push({
      name: "actionness", height: 64, top: 1.04, traces: (axis) => [{
        type: "scatter", mode: "lines", xaxis: "x", yaxis: axis, x: record.actionness.times, y: record.actionness.values, fill: "tozeroy",
        fillcolor: colour("curve") + "33", line: { color: colour("curve"), width: 1.3 }, hovertemplate: "actionness %{y:.2f} at %{x:.2f} s<extra></extra>",
        customdata: record.actionness.times, showlegend: false,
      }],
    });
    record.proposals.forEach((each, file) => {
      const [own, number] = pack(each.rows);
      const height = Math.min(120, Math.max(24, 7 * number));
      const several = record.proposals.length > 1 ? ` ${short(facts.proposals[file], 12)}` : "";
      shown.push({
        name: `proposals${several}`, height, top: number, traces: (axis) => [bars(each.rows.map(([start, end, score], i) => {
          const fit = Math.max(0, ...truth.map((t) => overlap([start, end], [t.start, t.end])));
          return { start, end, y: number - own[i] - 0.5, height: 0.7, colour: fitColour(fit), hover: `proposal ${i + 1}, score ${score}<br>${seconds(start, end)}<br>best tIoU ${fit.toFixed(2)}` };
        }), axis)],
      });
    });
    const found = visible();
    if (record.detections.length) {
      const order = [...new Set([...[...truth].sort((a, b) => a.start - b.start).map((t) => t.label), ...found.map((row) => row[0])])].slice(0, 12);
      const at = new Map(order.map((label, i) => [label, order.length - 1 - i]));
      const best = found.length ? Math.max(found[0][3], 1e-12) : 1;
      const pale = truth.filter((t) => at.has(t.label)).map((t) => ({ ...t, y: at.get(t.label) + 0.5, height: 1, colour: facts.colours[t.label], opacity: document.documentElement.dataset.theme === "dark" ? 0.32 : 0.2 }));
      const solid = found.filter((row) => at.has(row[0])).map(([label, start, end, score, hit]) => {
        const share = Math.max(0, Math.min(1, score / best)), height = 0.22 + 0.62 * share;
        return { start, end, y: at.get(label) + 0.04 + height / 2, height, colour: facts.colours[label], opacity: 0.5 + 0.5 * share, edge: hit ? colour("ink") : undefined,
          hover: `${plain(facts.labels[label])}, score ${score}<br>${seconds(start, end)}<br>${hit ? "a hit" : "no hit"} at tIoU ${facts.tiou}` };
      });
      shown.push({
        name: "", height: 34 * Math.max(1, order.length), top: Math.max(1, order.length), labels: order.map((label) => [at.get(label) + 0.5, facts.labels[label]]),
        traces: (axis) => [bars(pale, axis, { hoverinfo: "skip" }), bars(solid, axis, { name: "detections" })],
      });
    }
    return shown;
  }

  function drawTimeline() {
    const shown = parts(), gap = 8, head = 26, foot = 30;
    const inner = shown.reduce((sum, part) => sum + part.height + gap, 0);
    const layout = themed({
      barmode: "overlay", bargap: 0, dragmode: "zoom", hovermode: "closest", height: inner + head + foot,
      margin: { l: left(), r: RIGHT, t: head, b: foot }, uniformtext: { mode: "hide", minsize: 10 }, showlegend: false,
      xaxis: { range: [...range], domain: [0, 1], ticksuffix: duration() <= 120 ? " s" : "", anchor: `y${shown.length > 1 ? shown.length : ""}`, showgrid: true, zeroline: false, minallowed: 0, maxallowed: duration(), automargin: false },
    });
    if (duration() > 120) Object.assign(layout.xaxis, ticks());
    const traces = [];
    let top = 1;
    shown.forEach((part, number) => {
      const suffix = number ? String(number + 1) : "", bottom = Math.max(0, top - part.height / inner);
      const names = part.labels ?? [[part.top / 2, part.name]];
      layout[`yaxis${suffix}`] = {
        domain: [bottom, top], range: [0, part.top], fixedrange: true, showgrid: false, zeroline: false, automargin: false, anchor: "x",
        tickvals: names.map(([at]) => at), ticktext: names.map(([, name]) => plain(short(name, narrow() ? 11 : 17))), ticks: "", tickfont: { size: 12, color: colour("ink") },
        linecolor: colour("line"), showline: true,
      };
      traces.push(...part.traces(`y${suffix}`));
      top = bottom - gap / inner;
    });
    Plotly.react(timeline, traces, layout, { ...CONFIG, displayModeBar: false }).then(() => {
      if (!timeline.listens) listen();
      placeRuler();
    });
    const said = [];
    if (record.detections.length) said.push(`Detections: height is score, outlined: a hit at tIoU ${facts.tiou}, pale: truth.`);
    if (record.proposals.length) said.push("Proposals: the greener the closer to an instance.");
    byId("legend").textContent = [...said, "Drag to zoom, double-click to see all; a click goes there."].join(" ");
    byId("leastvalue").textContent = `${byId("least").value} % of the best`;
    fillRows();
  }

  // Minutes and seconds below the axis of a long video.
  function ticks() {
    const span = range[1] - range[0], steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    const step = steps.find((each) => span / each <= 12) ?? 7200, values = [];
    for (let at = Math.ceil(range[0] / step) * step; at <= range[1] + 1e-6; at += step) values.push(at);
    return { tickvals: values, ticktext: values.map((at) => {
      const minutes = Math.floor(at / 60), rest = String(Math.floor(at % 60)).padStart(2, "0");
      return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
    }) };
  }

  function listen() {
    timeline.listens = true;
    timeline.on("plotly_click", (event) => seek(Number(event.points.at(-1).customdata)));
    timeline.on("plotly_relayout", (change) => {
      const [low, high] = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (change["xaxis.autorange"]) zoom(0, duration());
      else if (low !== undefined && (low !== range[0] || high !== range[1])) zoom(low, high);
    });
    timeline.on("plotly_doubleclick", () => zoom(0, duration()));
    let drawnNarrow = narrow();
    new ResizeObserver(() => {
      if (narrow() !== drawnNarrow) { drawnNarrow = narrow(); drawTimeline(); }
      placeRuler();
    }).observe(timeline);
  }
  function zoom(low, high) {
    range = [Math.max(0, low), Math.min(duration(), high)];
    Plotly.relayout(timeline, { "xaxis.range": [...range], ...(duration() > 120 ? Object.fromEntries(Object.entries(ticks()).map(([key, value]) => [`xaxis.${key}`, value])) : {}) });
    placeCursor();
  }

  function zoomBy(factor) {  // around the cursor where it is in sight, else around the middle
    const [low, high] = range, middle = now >= low && now <= high ? now : (low + high) / 2;
    const span = Math.min(duration(), Math.max(0.5, (high - low) * factor));
    const from = Math.max(0, Math.min(duration() - span, middle - ((middle - low) / (high - low)) * span));
    zoom(from, from + span);
  }

  function fillRows() {
    const truth = record.truth;
    byId("rows").tBodies[0].replaceChildren(...visible().map(([label, start, end, score, hit]) => {
      const row = element("tr"), head = element("th", undefined, { scope: "row" });
      const button = element("button", undefined, { type: "button" }), swatch = element("span", undefined, { className: "swatch" });
      swatch.style.background = facts.colours[label];
      button.append(swatch, facts.labels[label]);
      head.append(button);
      const fit = Math.max(0, ...truth.filter((t) => t[0] === label).map((t) => overlap([start, end], [t[1], t[2]])));
      row.append(head, ...[`${start.toFixed(2)} s`, `${end.toFixed(2)} s`, String(score), fit.toFixed(2)].map((text) => element("td", text)));
      row.append(element("td", hit ? "hit" : "miss", { className: hit ? "hit" : "miss" }));
      row.dataset.start = start;
      return row;
    }));
  }

  // ------------------------------------------------------------------------------------------------ time

  function seek(to) {
    now = Math.max(0, Math.min(duration(), to));
    // Times are rounded to milliseconds: a little later is still the frame that begins then, not the one before.
    if (record.source && !player.hidden) player.currentTime = now + 0.001;
    placeCursor();
  }
  function placeRuler() {
    ruler.style.left = `${left()}px`;
    ruler.style.width = `${Math.max(0, timeline.clientWidth - left() - RIGHT)}px`;
    ruler.setAttribute("aria-valuemax", String(duration()));
    placeCursor();
  }
  function placeCursor() {
    if (now < range[0] || now > range[1]) {
      cursor.hidden = true;
      if (!player.paused && !player.hidden) {  // what is played stays in sight
        const span = range[1] - range[0], low = Math.max(0, Math.min(now, duration() - span));
        zoom(low, low + span);
        return;
      }
    } else {
      cursor.hidden = false;
      cursor.style.left = `${left() + ((now - range[0]) / (range[1] - range[0])) * (timeline.clientWidth - left() - RIGHT)}px`;
    }
    ruler.setAttribute("aria-valuenow", now.toFixed(2));
    byId("clock").textContent = `${now.toFixed(2)} s`;
  }
  function follow() {
    now = player.currentTime;
    placeCursor();
    if (!player.paused && !player.ended) requestAnimationFrame(follow);
  }

  function start() {
    byId("videos").hidden = false;
    ways = orders();
    Object.entries(ways).forEach(([value, [text]]) => byId("sort").append(element("option", text, { value })));
    facts.detections.forEach((name, value) => byId("file").append(element("option", name, { value })));
    for (const id of ["file", "least", "misses"]) byId(id).closest("label").hidden = !facts.detections.length;
    byId("rows").closest("div").hidden = !facts.detections.length;
    byId("search").addEventListener("input", fillList);
    byId("sort").addEventListener("change", fillList);
    byId("list").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) choose(Number(button.dataset.video));
    });
    for (const id of ["file", "least", "misses"]) byId(id).addEventListener("input", drawTimeline);
    byId("rows").addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-start]");
      if (row) seek(Number(row.dataset.start));
    });
    const drag = (event) => {
      const box = ruler.getBoundingClientRect();
      seek(range[0] + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * (range[1] - range[0]));
    };
    ruler.addEventListener("pointerdown", (event) => { ruler.setPointerCapture(event.pointerId); drag(event); });
    ruler.addEventListener("pointermove", (event) => { if (ruler.hasPointerCapture(event.pointerId)) drag(event); });
    ruler.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (step) { seek(now + step * (range[1] - range[0]) / 100); event.preventDefault(); }
    });
    for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => {
      if (button.dataset.zoom === "whole") zoom(0, duration());
      else zoomBy(Number(button.dataset.zoom));
    });
    for (const name of ["timeupdate", "seeked"]) player.addEventListener(name, () => { if (player.paused) follow(); });
    player.addEventListener("play", follow);
    const rows = fillList();
    if (rows.length) choose(named() ?? rows[0], false);
    go();
    window.addEventListener("hashchange", () => {
      if (named() !== null && named() !== chosen) choose(named(), false);
      go();
    });
  }
  // The video that the address of the page names.
  function named() {
    const number = location.hash.startsWith("#video=") ? videos.id.indexOf(decodeURIComponent(location.hash.slice(7))) : -1;
    return number < 0 ? null : number;
  }
  // The browser looked for the place before the section of the videos was shown.
  function go() {
    const place = named() !== null ? byId("videos") : location.hash.length > 1 ? byId(location.hash.slice(1)) : null;
    place?.scrollIntoView();
  }

  setTheme(dark.matches ? "dark" : "light");
  if (videos && videos.id.length) start();
})();
