"use strict";
// What the page shows comes from stats, once a second; the picture is a stream that the browser plays by itself.

const PERIOD_MS = 1000, PATIENCE_MS = 5000, AGAIN_MS = 2000, WINDOW_S = 60;
const at = (id) => document.getElementById(id);
const picture = at("picture"), still = at("still"), frame = at("frame"), note = at("note"), state = at("state"), pause = at("pause");
const chooser = at("cameras"), tokens = at("tokens"), tokenNote = at("token-note");
let paused = false, mapped = false, lost = false, run = null, timer = 0, again = 0, serial = 0, camera = location.hash.slice(1);

const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;
const show = (id, text) => { const node = at(id); if (node.textContent !== text) node.textContent = text; };

function say(text, kind) {
  show("state", text);
  state.className = `state ${kind}`;
}

function remark(text) {
  note.hidden = !text;
  note.textContent = text || "";
}

const ofCamera = () => (camera ? `camera=${encodeURIComponent(camera)}` : "");
const asked = (...own) => [...own, ofCamera(), mapped ? "tokens=1" : ""].filter(Boolean).join("&");

// Another address each time, or the browser would show what it has.
function play() {
  clearTimeout(again);
  if (paused || document.hidden) return;
  serial += 1;
  picture.src = `stream.mjpg?${asked(`n=${serial}`)}`;
}

// What is shown this moment is kept: a stream that ends takes its picture along.
function keep() {
  if (frame.classList.contains("still") || !picture.naturalWidth) return;
  still.width = picture.naturalWidth;
  still.height = picture.naturalHeight;
  still.getContext("2d").drawImage(picture, 0, 0);
}

function stop() {
  clearTimeout(again);
  keep();
  frame.classList.add("still");
  picture.removeAttribute("src");  // who does not look costs nothing
}

picture.addEventListener("load", () => {
  if (paused) return;
  frame.classList.remove("still");
  if (!still.width) keep();
  if (!lost) remark("");
});

picture.addEventListener("error", () => {
  if (paused || document.hidden) return;
  frame.classList.add("still");
  if (lost) return;
  remark("As many are watching as this page serves. Trying again.");
  clearTimeout(again);
  again = setTimeout(play, AGAIN_MS);
});

function setPaused(value) {
  paused = value;
  pause.setAttribute("aria-pressed", String(paused));
  pause.firstChild.textContent = paused ? "Play " : "Pause ";
  if (paused) {
    stop();
    say("paused", "waiting");
    remark("paused");
  } else {
    remark("");
    play();
    poll();
  }
}

// A run of several cameras shows one of them; which one stands behind the # of the address.
function choose(name) {
  camera = name;
  history.replaceState(null, "", `${location.pathname}#${camera}`);
  linkSnapshot();
  stop();
  still.width = still.height = 0;  // that was of another camera
  setPaused(false);
}

chooser.addEventListener("change", () => choose(chooser.value));
addEventListener("hashchange", () => choose(location.hash.slice(1)));

// What the first decision made of the tokens, over the picture.
function setMapped(value) {
  mapped = value;
  tokens.setAttribute("aria-pressed", String(mapped));
  tokenNote.hidden = !mapped;
  linkSnapshot();
  play();
}

function linkSnapshot() {
  at("snapshot").href = `snapshot.jpg${asked() && `?${asked()}`}`;
}

function tokenMap(found) {
  tokens.hidden = !found;
  if (!found && mapped) setMapped(false);
  if (!mapped) return;
  const count = (value) => value.toLocaleString("en");
  const left = found.left === null ? "" : `: ${count(found.left)} of ${count(found.of)}`;
  show("token-note", found.merges === false
    ? `Tokens after the first decision${left}. Dark ones are let go.`
    : `Tokens after the first decision${left}. Each box is one.`);
}

pause.addEventListener("click", () => setPaused(!paused));
tokens.addEventListener("click", () => setMapped(!mapped));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const own = event.target.closest("a, button");  // which the key itself presses
  if (event.key === " " && !own) {
    event.preventDefault();
    setPaused(!paused);
  } else if (event.key === "s" || event.key === "S") {
    at("snapshot").click();
  } else if ((event.key === "c" || event.key === "C") && !chooser.hidden) {
    chooser.selectedIndex = (chooser.selectedIndex + 1) % chooser.options.length;
    choose(chooser.value);
  } else if ((event.key === "t" || event.key === "T") && !tokens.hidden) {
    setMapped(!mapped);
  }
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stop();
    clearTimeout(timer);
  } else {
    play();
    poll();
  }
});

async function poll() {
  clearTimeout(timer);
  const ending = new AbortController();
  const late = setTimeout(() => ending.abort(), PATIENCE_MS);
  try {
    const asked = camera;
    const answer = await fetch(`stats?${ofCamera()}`, { signal: ending.signal, cache: "no-store" });
    if (answer.status === 404 && camera) camera = "";  // another run, with other cameras
    if (!answer.ok) throw new Error(answer.status === 401 ? "no token" : `answer ${answer.status}`);
    const stats = await answer.json();
    if (lost || (run !== null && run !== stats.run)) play();
    lost = false;
    run = stats.run;
    if (!paused && camera === asked) update(stats);
  } catch (error) {
    if (!lost) stop();
    lost = true;
    say(error.message === "no token" ? "the token is no longer valid" : "no connection", "lost");
    remark(error.message === "no token" ? "Open the address that the run printed." : "The run has ended, or the device is away.");
  } finally {
    clearTimeout(late);
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(poll, PERIOD_MS);
  }
}

function update(stats) {
  if (stats.silence) say(stats.silence, "silent"); else say("live", "live");
  keep();
  if (!stats.frames) remark("Waiting for the first frame.");
  else if (note.textContent && picture.naturalWidth && !frame.classList.contains("still")) remark("");
  show("model", stats.model || "");
  show("engine", stats.engine || "");
  const rate = stats.camera.fps ? `, ${number(stats.camera.fps, 0)} frames a second` : "";
  show("camera", `${stats.camera.uri}${rate}`);
  cameras(stats);
  document.title = stats.model ? `${stats.model} – edgeprune` : "edgeprune";
  const past = stats.window, points = past.points;
  show("p50", number(past.latency_ms.p50));
  show("p95", number(past.latency_ms.p95));
  show("fps", number(past.fps));
  show("frames", stats.frames.toLocaleString("en"));
  show("dropped", stats.dropped.toLocaleString("en"));
  show("damaged", stats.damaged.toLocaleString("en"));
  show("share", stats.frame ? percent(stats.frame.token_share) : "–");
  show("bucket", stats.frame ? stats.frame.bucket : "–");
  remembered(stats.frame && stats.frame.remembered);
  show("energy", stats.energy || "–");
  chart("latency", points, (each) => each.p50_ms, (each) => each.p95_ms, "ms",
    `Latency of the last minute: median ${number(past.latency_ms.p50)} ms, 95th percentile ${number(past.latency_ms.p95)} ms`);
  // a second that is not over, or was not whole, has fewer
  const whole = points.slice(1, -1);
  chart("rate", whole, (each) => each.frames, (each) => each.dropped, "a second",
    `Frames per second of the last minute: ${number(past.fps)}, ${past.dropped} dropped`);
  power(past);
  tokenMap(stats.token_map);
  legend(stats.classes);
  buckets(stats);
  faults(stats.faults);
}

function cameras(stats) {
  const names = stats.cameras.map((each) => each.name);
  chooser.hidden = !names.length;
  const options = rows(chooser, names.length, () => element("option"));
  stats.cameras.forEach((each, index) => {
    options[index].value = each.name;
    const text = each.silence ? `${each.name}: ${each.silence}` : each.name;
    if (options[index].textContent !== text) options[index].textContent = text;
  });
  if (names.length && chooser.value !== stats.camera.name) chooser.value = stats.camera.name;
}

// The smallest of some round numbers that is no smaller: a scale that stays when values tremble.
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= value);
}

function chart(id, points, first, second, unit, label) {
  const svg = at(id), values = [first, ...(second ? [second] : [])];
  const most = round(Math.max(0, ...points.flatMap((each) => values.map((value) => value(each)))));
  const line = (value) => points.map((each, index) => {
    const x = 600 * (1 - each.age_s / WINDOW_S), y = 97 - 94 * value(each) / most;
    const gap = index > 0 && points[index - 1].age_s - each.age_s > 3.5;  // no line over seconds without a frame
    return `${index === 0 || gap ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
  }).join("");
  svg.querySelector(".first").setAttribute("d", line(first));
  if (second) svg.querySelector(".second").setAttribute("d", line(second));
  svg.setAttribute("aria-label", label);
  show(`${id}-most`, points.length ? `0 to ${most} ${unit}` : "");
}

// Power, and the energy of a frame: of the last minute.
function power(past) {
  const known = past.points.filter((each) => each.watts !== null);
  at("power").hidden = !known.length;
  show("watts", number(past.watts, 2));
  show("frame-mj", number(past.mj_per_frame, 0));
  chart("energy-chart", known, (each) => each.watts, null, "W", `Power of the last minute: ${number(past.watts, 2)} watts`);
}

// The children of `parent`, made anew where their number changed.
function rows(parent, count, make) {
  if (parent.children.length !== count) parent.replaceChildren(...Array.from({ length: count }, make));
  return parent.children;
}

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function legend(classes) {
  const items = rows(at("legend"), classes.length, () => {
    const item = element("li");
    item.append(element("span", "chip"), element("span", "name"), element("span", "share"));
    return item;
  });
  classes.forEach((each, index) => {
    const [chip, name, share] = items[index].children;
    chip.style.backgroundColor = `rgb(${each.rgb.join(",")})`;
    name.textContent = each.name;
    const counted = each.count !== undefined;  // a task that finds things says how many
    share.textContent = counted && each.count ? `${each.count} (${percent(each.pixel_share, 1)})` : counted ? "0" : percent(each.pixel_share, 1);
    items[index].className = (counted ? each.count : each.pixel_share) ? "" : "none";
  });
}

// Where the frames before are remembered: what of this one was computed.
function remembered(tokens) {
  at("remembered").hidden = !tokens;
  if (tokens) show("remembered", `${tokens.computed} tokens computed, ${tokens.refreshed} of them in their turn, ${tokens.carried} carried`);
}

function buckets(stats) {
  const body = at("buckets").tBodies[0];
  const lines = rows(body, stats.buckets.length, () => {
    const line = element("tr"), bar = element("div", "bar"), cell = element("td"), name = element("th");
    name.scope = "row";
    bar.append(element("i"), element("span"));
    cell.append(bar);
    line.append(name, cell, element("td"));
    return line;
  });
  stats.buckets.forEach((each, index) => {
    const [name, cell, count] = lines[index].children, [fill, text] = cell.firstChild.children;
    lines[index].className = stats.frame && stats.frame.bucket === each.name ? "now" : "";
    name.textContent = each.name;
    fill.style.width = percent(Math.min(1, each.token_share));
    text.textContent = percent(each.token_share);
    count.textContent = stats.frames ? percent(each.frames / stats.frames) : "–";
  });
}

function faults(found) {
  show("fault-count", found.count ? String(found.count) : "");
  const list = at("faults"), last = found.last.slice().reverse();
  const key = `${found.count}`;
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.tabIndex = last.length ? 0 : -1;  // to scroll it by keys
  list.replaceChildren(...(last.length ? last.map((each) => {
    const item = element("li"), when = element("time", "", new Date(1000 * each.at_s).toLocaleTimeString([], { hour12: false }));
    item.append(when, element("span", "fault", each.line));
    return item;
  }) : [element("li", "", "none")]));
}

// The token has become a cookie by now; it need not stand in the address, which people send each other.
if (location.search) history.replaceState(null, "", `${location.pathname}${location.hash}`);
linkSnapshot();
play();
poll();
